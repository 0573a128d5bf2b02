# The image of every process: worker, web, migrate and commands. To add recipes, build upon it:
#   FROM rollcall
#   COPY jobs/ jobs/
#   COPY sources/ sources/
#   ENV SOURCES_DIR=/srv/rollcall/sources
FROM python:3.11-slim-bookworm AS packages
COPY requirements.txt /tmp/requirements.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /srv/rollcall rollcall
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LOG_FORMAT=json \
    PORT=8000
WORKDIR /srv/rollcall
COPY pyproject.toml LICENSE ./
COPY app/ app/
COPY workers/ workers/
# The user may not write bytecode; without it every command compiles what it imports.
RUN python -m compileall -q app workers
COPY --chmod=755 scripts/rollcall-image /usr/local/bin/rollcall
USER rollcall
EXPOSE 8000
# The web process is live; a worker's health is what the web process reports.
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/livez', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["sh", "-c", "exec uvicorn app.web:app --host 0.0.0.0 --port \"$PORT\""]
