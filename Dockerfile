# syntax=docker/dockerfile:1
# The image of extauthz: Python, the locked dependencies and the package; no shell is needed, no
# compiler is left, and nothing is written to its disk.
#
#   docker build -t extauthz:0.1.0 .
#
# `make image-check` runs these steps without Docker, and what they build.
#
# PYTHON_IMAGE is the version that the tests run with, exactly. Pin it by digest, too, where you build:
#   --build-arg PYTHON_IMAGE=python:3.11.14-slim-trixie@sha256:…
ARG PYTHON_IMAGE=python:3.11.14-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/serve.txt requirements/
RUN python -m venv /opt/extauthz \
    && /opt/extauthz/bin/pip install --no-compile --require-hashes --only-binary :all: --requirement requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY extauthz extauthz
COPY policies/kubeflow policies/kubeflow
# hatchling is among the locked requirements; it and pip leave once the package is built. Of the
# Kubernetes client only what reads kubeconfigs is ever imported, so its thousand models stay as they are.
RUN /opt/extauthz/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/extauthz/bin/pip install --no-compile --no-deps --no-index dist/*.whl \
    && /opt/extauthz/bin/pip uninstall --yes editables hatchling pathspec pluggy setuptools trove-classifiers pip \
    && /opt/extauthz/bin/python -m compileall -q -x '/kubernetes/(aio/)?client/(api|models)/' /opt/extauthz/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="extauthz" \
      org.opencontainers.image.description="External authorization for shared Kubeflow" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/extauthz /opt/extauthz
ENV PATH=/opt/extauthz/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# nonroot, by number: kubelet can see that it is not root.
USER 65532:65532
EXPOSE 9000 9001 9002
ENTRYPOINT ["extauthz"]
CMD ["serve", "--config", "/etc/extauthz/settings/settings.yaml"]
