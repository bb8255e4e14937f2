# syntax=docker/dockerfile:1
# A first stage installs the packages, so that the image contains neither pip's cache nor pip's own files.
FROM python:3.13-slim-trixie AS packages
COPY requirements.txt .
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install --require-hashes -r requirements.txt

FROM python:3.13-slim-trixie
# A new volume gets its owner from the folder of its first mount.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fastcommerce \
    && install -d -o fastcommerce -g fastcommerce /app /app/var /run/broker /run/database /run/dashboard
COPY --from=packages /venv /venv
WORKDIR /app
COPY runner runner
COPY plugins plugins
COPY deploy/passwords.py deploy/passwords.py
COPY topology.yaml config.yaml ./
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A container cannot write here. Otherwise each process would compile all modules again.
RUN python -m compileall -q runner plugins deploy
# The API must answer other containers and the host.
ENV ORDER_API_HOST=0.0.0.0
USER 10001
EXPOSE 8000 8080
STOPSIGNAL SIGTERM
# Any service that should run and does not makes the container unhealthy.
HEALTHCHECK --interval=10s --timeout=10s --start-period=1m --retries=3 CMD ["python", "-m", "runner", "status"]
ENTRYPOINT ["python", "-m", "runner"]
CMD ["run"]
