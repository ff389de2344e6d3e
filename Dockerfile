# The images of the webhook and the demo reader: docker buildx build --target webhook
# (or reader) --platform linux/amd64,linux/arm64. hack/images makes the same images
# without a container engine, and its tests hold the two in step.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
ENV CGO_ENABLED=0 GOFLAGS= GOWORK=off GOAMD64=v1 GOARM64=v8.0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY pkg pkg
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /out/ ./cmd/... \
 && chmod 0555 /out/*

# The certificate authorities come from a pinned module, as in hack/images.
FROM --platform=$BUILDPLATFORM golang:1.26 AS certificates
WORKDIR /src/hack/images
COPY hack/images ./
RUN go run ./ca-certificates > /ca-certificates.crt && chmod 0444 /ca-certificates.crt

FROM scratch AS reader
ARG VERSION=devel
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="bucket-access-reader" \
      org.opencontainers.image.description="Demo reader: proves that a Pod reads its bucket without static keys, or says what stands in the way" \
      org.opencontainers.image.source="https://github.com/bucket-access/bucket-access-webhook" \
      org.opencontainers.image.url="https://github.com/bucket-access/bucket-access-webhook" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/bucket-access-reader /bucket-access-reader
COPY --from=certificates /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 21840/tcp
ENTRYPOINT ["/bucket-access-reader"]

FROM scratch AS webhook
ARG VERSION=devel
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="bucket-access-webhook" \
      org.opencontainers.image.description="Mutating admission webhook: one label, and a Pod reads an S3 bucket of another AWS account" \
      org.opencontainers.image.source="https://github.com/bucket-access/bucket-access-webhook" \
      org.opencontainers.image.url="https://github.com/bucket-access/bucket-access-webhook" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/bucket-access-webhook /bucket-access-webhook
USER 65532:65532
EXPOSE 9443/tcp 8080/tcp 8081/tcp
ENTRYPOINT ["/bucket-access-webhook"]
