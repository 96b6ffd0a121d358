"""The terminal: Ctrl-A, raw mode and its end by each way, job control, and standard input and output of all kinds."""
import fcntl, os, signal, subprocess, tempfile, time, unittest
from lib import *

TALK = ["-kernel", guest("talk"), "-nographic"]


class Keys(unittest.TestCase):
    def test_quit(self):
        with Process(*TALK, terminal=True) as p:
            p.expect("ready")
            self.assertTrue(p.is_raw())
            p.type("a")
            p.expect(r"\[a\]")
            p.type("\x01x")
            p.expect("terminated")
            self.assertEqual(p.wait(), 0)
            self.assertTrue(p.is_restored())

    def test_each_key(self):
        with Process(*TALK, terminal=True) as p:
            p.expect("ready")
            p.type("\x01h")
            p.expect("C-a x +end")
            p.type("\x01\x01")
            p.expect("\\[\x01\\]")
            p.type("\x01b")
            p.expect("<break>")
            p.type("\x01z")  # not a command: nothing is sent
            p.type("\x03\x1a\x1c")  # Ctrl-C, Ctrl-Z and Ctrl-\ are the guest's
            p.expect("\\[\x03\\]\\[\x1a\\]\\[\x1c\\]")
            self.assertNotIn("[z]", p.reader.text)
            p.type("\x01c")
            p.expect(r"monitor - type 'help'")
            p.type("info stX\x7fatus\r")
            p.expect("VM status: running")
            p.type("garbage\x15info version\r")  # Ctrl-U
            p.expect(r"\n0\.\d")
            p.type("info garbage\x17version\r")  # Ctrl-W
            p.expect(r"\n0\.\d")
            p.type("\x01cb")
            p.expect(r"\[b\]")
            p.type("q")
            self.assertEqual(p.wait(), 3)
            self.assertTrue(p.is_restored())

    def test_monitor_alone_leaves_ctrl_c(self):
        with Process("-kernel", guest("talk"), "-serial", "null", "-monitor", "stdio", terminal=True) as p:
            p.expect(r"\(tierce\)")
            p.type("\x03")
            self.assertEqual(p.wait(), 0)
            self.assertTrue(p.is_restored())


class Ends(unittest.TestCase):
    def end(self, sig, status):
        with Process(*TALK, terminal=True) as p:
            p.expect("ready")
            self.assertTrue(p.is_raw())
            p.p.send_signal(sig)
            self.assertEqual(p.wait(), status)
            self.assertTrue(p.is_restored(), sig)

    def test_signals(self):
        for sig, status in [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 0)]:
            with self.subTest(signal=sig):
                self.end(sig, status)

    def test_crashes(self):
        for sig in [signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGQUIT]:
            with self.subTest(signal=sig):
                self.end(sig, -sig)

    def test_guest_ends(self):
        for key, status in [("q", 3), ("p", 0)]:
            with Process(*TALK, terminal=True) as p:
                p.expect("ready")
                p.type(key)
                self.assertEqual(p.wait(), status)
                self.assertTrue(p.is_restored())

    def test_failure_after_opening(self):
        with Process("-kernel", "/none", "-nographic", terminal=True) as p:
            p.expect("No such file")
            self.assertEqual(p.wait(), 1)
            self.assertTrue(p.is_restored())

    def test_stop_and_continue(self):
        """SIGTSTP gives the terminal back while the process is stopped; SIGCONT takes it again."""
        with Process(*TALK, terminal=True) as p:
            p.expect("ready")
            p.p.send_signal(signal.SIGTSTP)
            wait_until(lambda: "T (stopped)" in text("/proc/%d/status" % p.p.pid))
            self.assertTrue(p.is_restored())
            p.p.send_signal(signal.SIGCONT)
            wait_until(p.is_raw)
            p.type("c")
            p.expect(r"\[c\]")
            p.type("q")
            self.assertEqual(p.wait(), 3)
            self.assertTrue(p.is_restored())

    def test_terminal_goes_away(self):
        p = Process(*TALK, terminal=True)
        p.expect("ready")
        os.close(p.slave)
        os.close(p.master)
        p.master = None
        self.assertEqual(p.wait(), 0)  # by SIGHUP
        p.close()


class Input(unittest.TestCase):
    def test_file(self):
        with tempfile.TemporaryFile() as f:
            f.write(b"abcdefghijklmnoq")
            f.seek(0)
            r = subprocess.run([TIERCE, *with_exit(TALK)], stdin=f, capture_output=True, timeout=SECONDS)
        self.assertEqual(r.returncode, 3)
        self.assertEqual(r.stdout, b"ready\n" + b"".join(b"[%c]" % c for c in b"abcdefghijklmno"))

    def test_long_pipe(self):
        """More than any buffer holds, in order, none lost, to a guest that takes one byte at a time."""
        sent = "0123456789" * 1000
        status, out, _ = run(*TALK, input=sent + "q", timeout=90)  # each byte wakes a thread: 2 ms where CPUs sleep deeply
        self.assertEqual(status, 3)
        self.assertEqual(out, "ready\n" + "".join("[%s]" % c for c in sent))

    def ends_without(self, **how):
        p = subprocess.Popen([TIERCE, *with_exit(TALK)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
        r = Reader(p.stdout.fileno())
        r.expect("ready")
        time.sleep(0.1)
        self.assertIsNone(p.poll())  # the guest goes on without input
        p.terminate()
        self.assertEqual(p.wait(SECONDS), 0)
        p.stdout.close()
        p.stderr.close()

    def test_null(self):
        self.ends_without(stdin=subprocess.DEVNULL)

    def test_closed(self):
        self.ends_without(preexec_fn=lambda: os.close(0))

    def test_all_closed(self):
        """No file of ours may get the number of a standard descriptor."""
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "out")
            p = subprocess.Popen([TIERCE, "-kernel", guest("reset"), "-append", "p", "-serial", "file:" + path],
                                 preexec_fn=lambda: [os.close(fd) for fd in (0, 1, 2)])
            self.assertEqual(p.wait(SECONDS), 0)
            self.assertEqual(text(path), "boot 1\n")

    def test_pipe_that_ends(self):
        p = Process(*TALK)
        p.expect("ready")
        p.type("a")
        p.p.stdin.close()
        p.expect(r"\[a\]")
        time.sleep(0.1)
        self.assertIsNone(p.p.poll())
        p.p.terminate()
        self.assertEqual(p.wait(), 0)
        p.close()

    def test_slow(self):
        with Process(*TALK) as p:
            p.expect("ready")
            for c in "slow":
                time.sleep(0.05)
                p.type(c)
                p.expect(r"\[%s\]" % c)
            p.type("q")
            self.assertEqual(p.wait(), 3)

    def test_deaf_guest(self):
        """Input that nobody takes does not keep Ctrl-A X from working once it is read, nor signals at all."""
        with Process(*TALK) as p:
            p.expect("ready")
            p.type("u")
            time.sleep(0.1)
            p.type("x" * 4000)
            p.p.terminate()
            self.assertEqual(p.wait(), 0)


class Output(unittest.TestCase):
    def test_closed_pipe(self):
        p = subprocess.Popen([TIERCE, *with_exit(TALK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        Reader(p.stdout.fileno()).expect("ready")
        p.stdout.close()
        p.stdin.write(b"abcdefq")
        p.stdin.flush()
        self.assertEqual(p.wait(SECONDS), 3)  # not killed by SIGPIPE
        p.stdin.close()
        p.stderr.close()

    def test_stuck_reader(self):
        """Standard output is full and not read: the guest waits, and SIGTERM still ends it."""
        p = Process(*TALK)
        p.expect("ready")
        feeder = os.fork()
        if not feeder:
            try:
                while True:
                    os.write(p.fd, b"x" * 4096)
            finally:
                os._exit(0)
        time.sleep(0.7)
        self.assertIsNone(p.p.poll())
        p.p.terminate()
        try:
            self.assertEqual(p.wait(5), 0)
        finally:
            os.kill(feeder, signal.SIGKILL)
            os.waitpid(feeder, 0)
            p.close()

    LINES = "".join("%05d\n" % n for n in range(50000))

    def stalled(self, letter, *args, end=None):
        """A guest whose output nobody reads: the monitor answers all the same, and each byte comes when somebody does read."""
        with tempfile.TemporaryDirectory() as d:
            path, waits = os.path.join(d, "monitor"), os.path.join(d, "waits")
            out = ["-debugcon", "stdio", "-serial", "null"] if letter == "d" else ["-serial", "stdio", "-debugcon", "file:" + waits]
            p = subprocess.Popen([TIERCE, *with_exit(("-kernel", guest("spew"), "-append", letter, "-monitor", "unix:%s,server,nowait" % path, *out, *args))],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            monitor = Socket(path)
            try:
                if letter == "p" and "--icount" not in args:
                    wait_until(lambda: content(waits) == b"w")  # the guest runs, and sees that the line is busy
                else:
                    time.sleep(0.5)
                for _ in range(3):
                    monitor.send("info status\n")
                    monitor.expect("VM status: running")
                monitor.send("stop\ninfo status\ncont\n")
                monitor.expect("VM status: paused")
                self.assertIsNone(p.poll())
                if end:
                    end(p, monitor)
                    self.assertEqual(p.wait(10), 0)
                    return
                self.assertEqual(p.stdout.read().decode(), self.LINES)
                self.assertEqual(p.wait(SECONDS), 3)
                if letter != "d":
                    self.assertEqual(content(waits), b"w" if letter == "p" and "--icount" not in args else b"")
            finally:
                monitor.close()
                p.kill()
                p.wait()
                p.stdout.close()

    def test_stalled_reader(self):
        for letter, *args in [("p",), ("o",), ("d",), ("p", "--icount"), ("o", "--tier=interp")]:
            with self.subTest(letter=letter, args=args):
                self.stalled(letter, *args)

    def test_stalled_reader_and_the_end(self):
        for end in [lambda p, m: m.send("quit\n"), lambda p, m: p.terminate()]:
            for letter in "po":
                with self.subTest(letter=letter):
                    self.stalled(letter, end=end)

    def test_slow_reader_gets_the_end(self):
        """What waits when the machine has ended is still written."""
        p = subprocess.Popen([TIERCE, *with_exit(("-kernel", guest("talk"), "-nographic", "-append", "x"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        fcntl.fcntl(p.stdout.fileno(), 1031, 4096)  # F_SETPIPE_SZ
        p.stdin.write(b"0123456789" * 250 + b"q")
        p.stdin.flush()
        time.sleep(0.3)
        self.assertEqual(p.stdout.read().decode(), "ready\n" + "".join("[%s]" % c for c in "0123456789" * 250))
        self.assertEqual(p.wait(SECONDS), 3)
        p.stdin.close()
        p.stdout.close()

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            r = subprocess.run([TIERCE, *with_exit(TALK)], input=b"q", stdout=full, stderr=subprocess.DEVNULL, timeout=SECONDS)
        self.assertEqual(r.returncode, 3)


class Sockets(unittest.TestCase):
    def test_unix_server(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "s")
            with Process("-kernel", guest("talk"), "-serial", "unix:%s,server,nowait" % path) as p:
                for text in "ab":  # one peer after the other
                    s = Socket(path)
                    s.send(text)
                    s.expect(r"\[%s\]" % text)
                    s.close()
                s = Socket(path)
                s.send("q")
                self.assertEqual(p.wait(), 3)
                s.close()
            self.assertFalse(os.path.exists(path))

    def test_serial_port_and_monitor_on_a_socket(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "s")
            with Process("-kernel", guest("talk"), "-serial", "mon:unix:%s,server,nowait" % path, "-serial", "mon:stdio") as p:
                s = Socket(path)
                s.send("a")
                s.expect(r"\[a\]")
                s.send("\x01cinfo status\n")
                s.expect("running")
                p.type("\x01cinfo version\n")  # another monitor, at the second port
                p.expect(r"\d+\.\d+")
                s.send("\x01c\x01x")
                s.expect("terminated")
                self.assertEqual(p.wait(), 0)
                s.close()

    def test_server_waits(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "s")
            with Process("-kernel", guest("talk"), "-serial", "unix:%s,server" % path) as p:
                p.expect("waiting for a connection")
                s = Socket(path)
                s.expect("ready")  # from its very first byte
                s.send("q")
                self.assertEqual(p.wait(), 3)
                s.close()

    def test_tcp_client(self):
        for family, address, words in [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "[::1]")]:
            with self.subTest(address=address), socket.socket(family) as server:
                try:
                    server.bind((address, 0))
                except OSError:
                    self.assertEqual(family, socket.AF_INET6)  # a host without IPv6
                    continue
                server.listen()
                with Process("-kernel", guest("talk"), "-serial", "tcp:%s:%d" % (words, server.getsockname()[1])) as p:
                    s, _ = server.accept()
                    r = Reader(s.fileno())
                    r.expect("ready")
                    s.sendall(b"aq")
                    r.expect(r"\[a\]")
                    self.assertEqual(p.wait(), 3)
                    s.close()

    def test_pty(self):
        with Process("-kernel", guest("talk"), "-serial", "pty") as p:
            path = p.expect(r"char device redirected to (\S+) \(label serial0\)").group(1)
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
            os.write(fd, b"a")
            Reader(fd).expect(r"\[a\]")
            os.close(fd)
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY)  # it may be left and opened again
            os.write(fd, b"q")
            self.assertEqual(p.wait(), 3)
            os.close(fd)


if __name__ == "__main__":
    main()
