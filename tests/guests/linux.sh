#!/bin/bash
# Debian's kernels and small root file systems for them; made once, kept in the cache, printed as paths.
#   linux.sh kernel cloud|amd64|686|686-pae     the bzImage of linux-image-<name>
#   linux.sh vmlinux cloud|amd64|686|686-pae    the ELF kernel inside it
#   linux.sh vmlinux-entry NAME                 the same without its notes: it has no PVH entry, only that of ELF
#   linux.sh initrd NAME                        a cpio archive with a shell on the serial port; on the kernel's command
#                                               line RUN="command" is run first
#     busybox, busybox-i386                     busybox alone
#     debian                                    and bash, python3, perl, dynamically linked
#     gcc                                       and bash and gcc with what it needs to compile and link C
set -eu
script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tierce
mkdir -p "$cache"
die() { echo "linux.sh: $*" >&2; exit 1; }

# apt with its own state, so that the machine's architectures and lists stay as they are.
apt_i386() {
  local d=$cache/apt-i386
  mkdir -p "$d/state/lists/partial" "$d/cache/archives/partial"
  [ -e "$d/state/status" ] || : > "$d/state/status"
  "$1" -q -o APT::Architecture=i386 -o APT::Architectures=i386 -o Dir::State="$d/state" -o Dir::State::status="$d/state/status" \
    -o Dir::Cache="$d/cache" -o Debug::NoLocking=1 "${@:2}"
}
i386_lists() {
  [ -e "$cache/apt-i386/updated" ] && return
  apt_i386 apt-get update >&2 || echo "linux.sh: an i386 index could not be fetched; going on with the others" >&2
  : > "$cache/apt-i386/updated"
}

# fetch NAME ARCH: unpacks the package into $cache/pkg/NAME-ARCH
fetch() {
  local dir=$cache/pkg/$1-$2 tmp
  [ -d "$dir" ] && { echo "$dir"; return; }
  tmp=$(mktemp -d "$cache/tmp.XXXXXX")
  if [ "$2" = i386 ]; then
    i386_lists
    (cd "$tmp" && apt_i386 apt-get download "$1:i386" >&2) || die "cannot download $1:i386"
  else
    (cd "$tmp" && { apt-get -q download "$1" >&2 || { apt-get -q update >&2 || true; apt-get -q download "$1" >&2; }; }) || die "cannot download $1"
  fi
  mkdir -p "$tmp/out" "$cache/pkg"
  dpkg-deb -x "$tmp"/*.deb "$tmp/out"
  mv "$tmp/out" "$dir"
  rm -rf "$tmp"
  echo "$dir"
}

kernel() {
  local meta=linux-image-$1 arch=amd64 real
  case $1 in
    cloud) meta=linux-image-cloud-amd64;;
    amd64) ;;
    686|686-pae) arch=i386;;
    *) die "kernel '$1' is not known: cloud, amd64, 686, 686-pae";;
  esac
  local out=$cache/vmlinuz-$1
  [ -s "$out" ] && { echo "$out"; return; }
  if [ $arch = i386 ]; then
    i386_lists
    real=$(apt_i386 apt-cache depends "$meta:i386" | sed -n 's/.*Depends: \(linux-image-[0-9][^: ]*\).*/\1/p' | head -1)
  else
    real=$(apt-cache depends "$meta" | sed -n 's/.*Depends: \(linux-image-[0-9][^: ]*\).*/\1/p' | head -1)
  fi
  [ -n "$real" ] || die "no package for $meta"
  local dir; dir=$(fetch "$real" $arch)
  cp "$dir"/boot/vmlinuz-* "$out.tmp" && mv "$out.tmp" "$out"
  rm -rf "$dir"
  echo "$out"
}

u32() { od -An -tu4 -j"$2" -N4 "$1" | tr -d ' '; }
u8() { od -An -tu1 -j"$2" -N1 "$1" | tr -d ' '; }

# The payload that the setup header tells of (Linux boot protocol 2.08), unpacked by its magic.
vmlinux() {
  local out=$cache/vmlinux-$1 image start size magic
  [ -s "$out" ] && { echo "$out"; return; }
  image=$(kernel "$1")
  start=$(( ($(u8 "$image" 497) + 1) * 512 + $(u32 "$image" 584) ))
  size=$(u32 "$image" 588)
  tail -c +$((start + 1)) "$image" | head -c "$size" > "$out.packed"
  magic=$(od -An -tx1 -N6 "$out.packed" | tr -d ' ')
  case $magic in
    1f8b*) gzip -dc;;
    fd377a585a00) xz -dc;;
    28b52ffd*) zstd -dc;;
    02214c18*|04224d18*) lz4 -dc;;
    425a68*) bzip2 -dc;;
    5d0000*) xz --format=lzma -dc;;
    *) die "payload of $image has unknown magic $magic";;
  esac < "$out.packed" > "$out.tmp" 2>/dev/null || [ -s "$out.tmp" ] # the size word behind the stream upsets some
  rm -f "$out.packed"
  mv "$out.tmp" "$out"
  echo "$out"
}

# The same ELF file with its PT_NOTE program headers made PT_NULL.
vmlinux_entry() {
  local out=$cache/vmlinux-entry-$1
  [ -s "$out" ] && { echo "$out"; return; }
  cp "$(vmlinux "$1")" "$out.tmp"
  python3 - "$out.tmp" <<'PYTHON'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    head = f.read(64)
    wide = head[4] == 2
    table, = struct.unpack_from("<Q" if wide else "<I", head, 32 if wide else 28)
    size, count = struct.unpack_from("<HH", head, 54 if wide else 42)
    for at in range(table, table + size * count, size):
        f.seek(at)
        if struct.unpack("<I", f.read(4))[0] == 4:
            f.seek(at)
            f.write(struct.pack("<I", 0))
PYTHON
  mv "$out.tmp" "$out"
  echo "$out"
}

write_init() {
  cat > "$1/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mkdir -p /bin /proc /sys /dev /tmp /root
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/root TERM=linux
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
[ -e /dev/ttyS0 ] || mknod /dev/ttyS0 c 4 64
echo "tierce guest ready: $(uname -r) $(uname -m)"
[ -n "$RUN" ] && eval "$RUN"
while :; do
  setsid sh -c 'exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1'
done
INIT
  chmod +x "$1/init"
}

pack() { (cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -n1) > "$2.tmp" && mv "$2.tmp" "$2"; }

# A program with the libraries that it is linked against, from this machine's own files.
copy_program() {
  local root=$1 program
  for program in "${@:2}"; do
    program=$(command -v "$program") || die "the machine lacks $program"
    for f in "$program" "$(readlink -f "$program")" $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*'); do
      mkdir -p "$root$(dirname "$f")"
      cp -L "$f" "$root$f"
    done
  done
}

# What gcc needs to make a program of hello.c: its parts and the programs that it runs, headers, start files, libraries.
copy_gcc() {
  local root=$1 parts package f
  parts=$(dirname "$(gcc -print-prog-name=cc1)")
  PATH=/usr/bin:/bin copy_program "$root" bash gcc as ld "$parts/cc1" "$parts/collect2" "$parts/lto-wrapper"
  for package in libc6-dev linux-libc-dev "libgcc-$(gcc -dumpversion)-dev" libcrypt-dev; do
    for f in $(dpkg -L "$package" | grep -E '^/usr/(include/|lib/.*(\.h$|crt[^/]*\.o$|libc\.so$|libgcc[^/]*\.(a|so)$|libc_nonshared\.a$))'); do
      [ -f "$f" ] || continue
      mkdir -p "$root$(dirname "$f")"
      cp -L "$f" "$root$f"
    done
  done
  f=$(gcc -print-file-name=liblto_plugin.so)
  cp -L "$f" "$root$parts/"
  for f in libc.so.6 libgcc_s.so.1 ld-linux-x86-64.so.2; do
    f=$(gcc -print-file-name=$f)
    mkdir -p "$root$(dirname "$f")"
    cp -L "$f" "$root$f"
  done
  mkdir -p "$root/lib64" "$root/lib/x86_64-linux-gnu"
  cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
  cp -L /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/libgcc_s.so.1 "$root/lib/x86_64-linux-gnu/"
}

# The archive's name has a sum of this script in it, so that a change makes new ones.
initrd() {
  local out root busybox=/bin/busybox
  out=$cache/initrd-$1-$(cksum < "$script" | cut -d' ' -f1).gz
  [ -s "$out" ] && { echo "$out"; return; }
  root=$(mktemp -d "$cache/root.XXXXXX")
  mkdir -p "$root/bin"
  case $1 in
    busybox) ;;
    busybox-i386) busybox=$(fetch busybox-static i386)/bin/busybox;;
    gcc) copy_gcc "$root";;
    debian) PATH=/usr/bin:/bin copy_program "$root" bash python3 perl ls od
            mkdir -p "$root/usr/lib"
            cp -r /usr/lib/python3* "$root/usr/lib/" 2>/dev/null || true
            rm -rf "$root"/usr/lib/python3/dist-packages "$root"/usr/lib/python3*/test;;
    *) die "initrd '$1' is not known: busybox, busybox-i386, debian, gcc";;
  esac
  cp "$busybox" "$root/bin/busybox"
  write_init "$root"
  pack "$root" "$out"
  rm -rf "$root"
  echo "$out"
}

case ${1:-} in
  kernel) kernel "$2";;
  vmlinux) vmlinux "$2";;
  vmlinux-entry) vmlinux_entry "$2";;
  initrd) initrd "$2";;
  *) die "usage: linux.sh kernel|vmlinux|vmlinux-entry|initrd NAME";;
esac
