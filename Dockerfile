# syntax=docker/dockerfile:1
# The packages are installed in a first stage, so that the image holds neither pip's cache nor what pip needs.
FROM python:3.13-slim AS packages
COPY requirements.txt .
RUN python -m venv --without-pip /venv \
    && pip --disable-pip-version-check --no-cache-dir install --prefix /venv --require-hashes -r requirements.txt

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fastcommerce \
    && install -d -o fastcommerce -g fastcommerce /app /app/var
COPY --from=packages /venv /venv
WORKDIR /app
COPY runner runner
COPY plugins plugins
COPY topology.yaml config.yaml ./
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# RabbitMQ is a container of its own here, and the API must answer the host.
ENV ORDER_API_HOST=0.0.0.0
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "runner"]
CMD ["run"]
