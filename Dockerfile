# The three images, with the content that `ers-cluster image` writes for the local cluster: one program, its shared libraries, nobody, no shell.
#   docker build --target ers-operator -t registry.example.com/ers/ers-operator .
#   docker build --target ers-server   -t registry.example.com/ers/ers-server .
#   docker build --target ers-agent    -t registry.example.com/ers/ers-agent .
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --locked --release -p ers-operator -p ers-server -p ers-agent

FROM gcr.io/distroless/cc-debian12:nonroot AS base
USER 65534:65534

FROM base AS ers-operator
COPY --from=build /source/target/release/ers-operator /bin/ers-operator
ENTRYPOINT ["/bin/ers-operator"]

FROM base AS ers-server
COPY --from=build /source/target/release/ers-server /bin/ers-server
ENTRYPOINT ["/bin/ers-server"]

FROM base AS ers-agent
COPY --from=build /source/target/release/ers-agent /bin/ers-agent
ENTRYPOINT ["/bin/ers-agent"]
