# One image for the API and the worker: dropcast serve, dropcast worker.
ARG PYTHON_VERSION=3.11

# The whole image, for its C compiler; none of it is in the one below.
FROM python:${PYTHON_VERSION} AS build
# cpu: the small build of torch where the index has it, else the one below, which computes on
#      the CPU as well. PyTorch's installation page names the index of CPU builds.
# cuda: the build for NVIDIA GPUs, which is what the Python package index offers for Linux.
ARG TORCH_BUILD=cpu
ARG TORCH_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/dropcast
ENV PATH=/opt/dropcast/bin:$PATH
COPY constraints.txt ./
RUN set -eu; \
    torch=$(grep '^torch==' constraints.txt); \
    index=${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"}; \
    case $TORCH_BUILD in \
    cpu) pip install $index "$torch+cpu" || { \
        echo 'no CPU build of torch at hand: taking the default one (see TORCH_INDEX_URL)'; \
        pip install $index "$torch"; } ;; \
    cuda) pip install $index "$torch" ;; \
    *) echo "TORCH_BUILD is cpu or cuda, not $TORCH_BUILD"; exit 1 ;; \
    esac
# What we need, before our own code: changes of the code do not install it anew.
COPY pyproject.toml README.md LICENSE ./
RUN mkdir -p models service/examples service/migrations/versions service/routes \
    && pip install --constraint constraints.txt . \
    && pip uninstall --yes dropcast
COPY models ./models
COPY service ./service
RUN pip install --constraint constraints.txt --no-deps .

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/dropcast --create-home dropcast
COPY --from=build /opt/dropcast /opt/dropcast
# 0.0.0.0 is the container's own network: whoever publishes the port decides who reaches it.
# Beyond this machine's loopback publish it with -e DROPCAST_KEYS=required only.
ENV PATH=/opt/dropcast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DROPCAST_HOME=/var/lib/dropcast \
    DROPCAST_HOST=0.0.0.0 \
    DROPCAST_KEYS=off
USER 10001
WORKDIR /var/lib/dropcast
VOLUME /var/lib/dropcast
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"DROPCAST_PORT\", 8000)}/health/live', timeout=4)"]
CMD ["dropcast", "serve"]
