# Two stages: the first may hold build tools and caches, the second holds the environment and nothing else.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /app \
 && /app/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt \
 && python -m venv /tools \
 && /tools/bin/pip install --no-cache-dir --require-hashes -r requirements/dev.txt
COPY . .
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir /dist . \
 && /app/bin/pip install --no-index --no-deps /dist/*.whl \
 && /app/bin/python -m compileall -q /app/lib \
 && /app/bin/pip uninstall --yes pip

FROM python:3.13-slim
# /data is made here so that a named volume mounted on it begins with the right owner.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin farebox \
 && install -d -m 0700 -o farebox -g farebox /data
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FAREBOX_BIND=0.0.0.0:8080 \
    FAREBOX_DATA_DIR=/data
WORKDIR /data
VOLUME /data
EXPOSE 8080
USER 10001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["farebox"]
CMD ["serve"]
