#!/bin/sh
# Builds the demo's images from installed Debian packages, as OCI layout archives: no registry, no
# container tool, no root. The same packages give the same bytes.
#
#   build.sh OUT_DIR    writes myapp-1.2.0.tar, myapp-1.3.0.tar, encryption-service-v1.0.tar and
#                       log-shipper-v1.0.tar
#
# Needs the package busybox-static; tar, gzip and sha256sum are on every Debian.
set -eu
umask 022
export LC_ALL=C

if [ $# -ne 1 ]; then
    echo "usage: build.sh OUT_DIR" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
if ! dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q '^install ok installed$'; then
    echo "build.sh: the package busybox-static is missing; install it with: apt-get install busybox-static" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# Every file bears this time, and every image says it was created then.
epoch=1767225600
created=2026-01-01T00:00:00Z
arch=$(dpkg --print-architecture)
# Whom the containers run as: a number, so that nothing has to be looked up.
user=10001

# copy_package NAME ROOT: the package's files as they are installed here, and its entry in the database.
copy_package() {
    dpkg -L "$1" | while IFS= read -r path; do
        case $path in
        /. | *[!A-Za-z0-9_.+/:@-]*) continue ;;
        esac
        # The top-level links of a merged /usr belong to no package: there they are directories.
        if [ -L "$path" ] && [ "$(dirname "$path")" != / ]; then
            mkdir -p "$2$(dirname "$path")"
            cp -P "$path" "$2$path"
        elif [ -d "$path" ]; then
            mkdir -p "$2$path"
        elif [ -f "$path" ] && [ -r "$path" ]; then
            mkdir -p "$2$(dirname "$path")"
            cp "$path" "$2$path"
        fi
    done
    mkdir -p "$2/var/lib/dpkg"
    dpkg-query -s "$1" >>"$2/var/lib/dpkg/status"
    echo >>"$2/var/lib/dpkg/status"
}

# pack ROOT NAME: the layer of a directory; sets diff_id, digest and size, and keeps blobs/DIGEST.
pack() {
    tar -C "$1" --sort=name --format=ustar --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
        -cf "$work/$2.tar" .
    diff_id=$(sha256sum <"$work/$2.tar" | cut -d' ' -f1)
    gzip -9n <"$work/$2.tar" >"$work/$2.tar.gz"
    blob "$work/$2.tar.gz"
}

# blob FILE: stores a file under its digest; sets digest and size.
blob() {
    digest=$(sha256sum <"$1" | cut -d' ' -f1)
    size=$(wc -c <"$1" | tr -d ' ')
    cp "$1" "$work/blobs/$digest"
}

# image NAME TAG PORT: assembles the archive of the base and the directory $work/NAME-TAG.
image() {
    name=$1 tag=$2 port=$3
    # Whatever the umask was when the sources were checked out.
    chmod -R u=rwX,go=rX "$work/$name-$tag"
    pack "$work/$name-$tag" "layer"
    layer_diff_id=$diff_id layer=$digest layer_size=$size
    ports=
    if [ -n "$port" ]; then
        ports="\"ExposedPorts\":{\"$port/tcp\":{}},"
    fi
    printf '{"created":"%s","architecture":"%s","os":"linux","config":{"User":"%s",%s"Env":["PATH=/bin:/usr/bin","APP_NAME=%s","APP_VERSION=%s"],"Entrypoint":["/bin/sh","/app/run"],"WorkingDir":"/","StopSignal":"SIGTERM","Labels":{"org.opencontainers.image.title":"%s","org.opencontainers.image.version":"%s"}},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]},"history":[{"created":"%s","created_by":"Debian packages busybox-static and base-files"},{"created":"%s","created_by":"%s %s"}]}' \
        "$created" "$arch" "$user:$user" "$ports" "$name" "$tag" "$name" "$tag" \
        "$base_diff_id" "$layer_diff_id" "$created" "$created" "$name" "$tag" >"$work/config.json"
    blob "$work/config.json"
    config=$digest config_size=$size
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%s},{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}]}' \
        "$config" "$config_size" "$base" "$base_size" "$layer" "$layer_size" >"$work/manifest.json"
    blob "$work/manifest.json"
    manifest=$digest manifest_size=$size

    layout=$work/layout
    rm -rf "$layout"
    mkdir -p "$layout/blobs/sha256"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"docker.io/library/%s:%s","org.opencontainers.image.ref.name":"%s"}}]}' \
        "$manifest" "$manifest_size" "$arch" "$name" "$tag" "$tag" >"$layout/index.json"
    for one in "$base" "$layer" "$config" "$manifest"; do
        cp "$work/blobs/$one" "$layout/blobs/sha256/$one"
    done
    tar -C "$layout" --sort=name --format=ustar --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
        -cf "$out/$name-$tag.tar.new" .
    mv "$out/$name-$tag.tar.new" "$out/$name-$tag.tar"
    echo "built $name:$tag ($(wc -c <"$out/$name-$tag.tar" | tr -d ' ') bytes, sha256:$manifest)"
}

mkdir -p "$work/blobs" "$work/base"

# The base: two real packages with their database, the applets' names, one user.
copy_package base-files "$work/base"
copy_package busybox-static "$work/base"
mkdir -p "$work/base/bin" "$work/base/etc" "$work/base/proc" "$work/base/sys" "$work/base/dev" "$work/base/tmp"
for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$work/base/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\napp:x:%s:%s:app:/:/bin/sh\n' "$user" "$user" >"$work/base/etc/passwd"
printf 'root:x:0:\napp:x:%s:\n' "$user" >"$work/base/etc/group"
chmod 1777 "$work/base/tmp"
pack "$work/base" base
base_diff_id=$diff_id base=$digest base_size=$size

# The applications: a few lines of shell each.
for tag in 1.2.0 1.3.0; do
    cp -R "$here/myapp" "$work/myapp-$tag"
    chmod 755 "$work/myapp-$tag/www/cgi-bin/index.cgi"
    image myapp "$tag" 3000
done
cp -R "$here/encryption-service" "$work/encryption-service-v1.0"
chmod 755 "$work/encryption-service-v1.0/www/cgi-bin/index.cgi"
image encryption-service v1.0 8443
cp -R "$here/log-shipper" "$work/log-shipper-v1.0"
image log-shipper v1.0 ''
