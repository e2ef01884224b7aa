# API, admin and workers in one container; the data lives in the volume /data.
#
#   docker build -t task-service .
#   docker run -p 8080:8080 -v tasks:/data --stop-timeout 40 task-service
#
# --stop-timeout: running tasks get 25 s to finish (TASKSERVICE_GRACE_SECONDS); without it, Docker kills after 10.

FROM python:3.13-slim AS build
RUN python -m venv --without-pip /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /app
COPY requirements.txt .
RUN /usr/local/bin/python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
    --require-hashes -r requirements.txt
COPY . .
# Compiled here, as nobody may write into the image later. The key and the file are of use for these commands only.
RUN mkdir staticfiles \
    && SECRET_KEY=build DB_PATH=/tmp/build.db python manage.py collectstatic --no-input \
    && python -m compileall -q manage.py taskservice tasks

FROM python:3.13-slim
RUN groupadd --gid 10001 tasks \
    && useradd --uid 10001 --gid tasks --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tasks \
    && install --directory --owner tasks --group tasks /data
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8080 \
    DB_PATH=/data/tasks.db
WORKDIR /app
USER 10001:10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=4)"]
CMD ["python", "manage.py", "serve"]
