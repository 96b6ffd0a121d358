"""What the tests of the programs share: running tierce to its end, or by the side, with pipes or a terminal."""
import fcntl, os, pty, re, resource, select, signal, socket, subprocess, sys, tempfile, termios, time, unittest

TIERCE = os.environ["TIERCE"]
GUESTS = os.environ["GUESTS"]
SOURCE = os.environ["SOURCE"]
LLVM = os.environ.get("TIERCE_LLVM") in ("1", "ON", "TRUE", "YES")
SECONDS = 20
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # some tests crash it on purpose


def guest(name):
    return os.path.join(GUESTS, name + ".elf")


def symbols(name):
    """Addresses by name."""
    out = subprocess.run(["nm", guest(name)], capture_output=True, text=True, check=True).stdout
    return {line.split()[2]: int(line.split()[0], 16) for line in out.splitlines()}


def content(path):
    with open(path, "rb") as f:
        return f.read()


def text(path):
    return content(path).decode(errors="replace")


def with_exit(args):
    """The guests end through isa-debug-exit, which is not there by itself."""
    return args if "-device" in args else ("-device", "isa-debug-exit", *args)


def run(*args, input="", timeout=SECONDS, **more):
    """To its end: status, standard output, standard error."""
    r = subprocess.run([TIERCE, *with_exit(args)], input=input, capture_output=True, text=True, errors="replace", timeout=timeout, **more)
    return r.returncode, r.stdout, r.stderr


def debian():
    """Debian's cloud kernel and the initial RAM disk with busybox."""
    linux = os.path.join(SOURCE, "tests/guests/linux.sh")
    return [subprocess.run([linux, *what], capture_output=True, text=True, check=True).stdout.strip() for what in (("kernel", "cloud"), ("initrd", "busybox"))]


class Reader:
    """Bytes from a descriptor, waited for by what they must contain."""

    def __init__(self, fd):
        self.fd, self.text, self.at = fd, "", 0

    def more(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            got = os.read(self.fd, 65536)
        except OSError:
            got = b""
        self.text += got.decode(errors="replace")
        return bool(got)

    def expect(self, pattern, timeout=SECONDS):
        """Waits for the regular expression behind what was expected before; returns its match."""
        end = time.monotonic() + timeout
        while True:
            m = re.compile(pattern).search(self.text, self.at)
            if m:
                self.at = m.end()
                return m
            left = end - time.monotonic()
            if left <= 0 or not self.more(left):
                raise AssertionError("no %r in %r" % (pattern, self.text[self.at:][-2000:]))


class Process:
    """tierce (or another program) by the side, on pipes, or on a terminal of its own."""

    def __init__(self, *args, terminal=False, program=TIERCE, **more):
        self.master = None
        args = with_exit(args) if program == TIERCE else args
        if terminal:
            self.master, slave = pty.openpty()
            self.slave = slave
            self.before = termios.tcgetattr(slave)
            self.p = subprocess.Popen([program, *args], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                      preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **more)
            self.fd, self.reader = self.master, Reader(self.master)
        else:
            self.p = subprocess.Popen([program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
            self.fd, self.reader = self.p.stdin.fileno(), Reader(self.p.stdout.fileno())

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, timeout=SECONDS):
        return self.reader.expect(pattern, timeout)

    def wait(self, timeout=SECONDS):
        return self.p.wait(timeout)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def is_restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        for f in (self.p.stdin, self.p.stdout):
            if f:
                f.close()
        if self.master is not None:
            os.close(self.master)
            os.close(self.slave)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def wait_until(what, timeout=SECONDS):
    end = time.monotonic() + timeout
    while not what():
        if time.monotonic() > end:
            raise AssertionError("it did not come to pass in %s s" % timeout)
        time.sleep(0.01)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Socket:
    """A connection to a socket of tierce's, tried until it listens."""

    def __init__(self, address, timeout=SECONDS):
        end = time.monotonic() + timeout
        while True:
            self.s = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            try:
                self.s.connect(address)
                break
            except OSError:
                self.s.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self.reader = Reader(self.s.fileno())

    def send(self, text):
        self.s.sendall(text if isinstance(text, bytes) else text.encode())

    def expect(self, pattern, timeout=SECONDS):
        return self.reader.expect(pattern, timeout)

    def close(self):
        self.s.close()


def main():
    unittest.main(verbosity=1)
