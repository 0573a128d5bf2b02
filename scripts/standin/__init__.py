"""The stand-in web: five APIs on a loopback port, so that nothing here needs the real sites."""
