FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md alembic.ini ./
COPY jobengine jobengine
COPY migrations migrations
RUN python -m venv /opt/jobengine && /opt/jobengine/bin/pip install --no-cache-dir '.[granian,opentelemetry,postgresql]'

FROM python:3.13-slim
COPY --from=build /opt/jobengine /opt/jobengine
# A user of its own, and the one folder that is written: the root file system may be read-only.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin jobengine \
    && install -d -o jobengine -g jobengine -m 0700 /jobengine
USER jobengine
ENV PATH=/opt/jobengine/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME /jobengine
EXPOSE 6010
# http.client asks no proxy, whatever http_proxy says.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 6010, timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
# SIGTERM answers what was accepted, and exits 0 within seconds.
STOPSIGNAL SIGTERM
CMD ["jobengine", "serve", "--host", "0.0.0.0", "--port", "6010"]
