"""What compare.py needs of the machine: processes, their cost, ports, locks, cores."""
import fcntl, os, re, resource, signal, socket, subprocess, time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()


def tree(pid):
    kids = {}
    for d in os.listdir("/proc"):
        if d.isdigit():
            try:
                s = Path(f"/proc/{d}/stat").read_text()
            except OSError:
                continue
            kids.setdefault(int(s.rsplit(")", 1)[1].split()[1]), []).append(int(d))
    out, todo = [], [pid]
    while todo:
        p = todo.pop()
        out.append(p)
        todo += kids.get(p, [])
    return out


def cpu(pids):
    """(user, sys) seconds, threads that ended included."""
    u = s = 0
    for p in pids:
        try:
            f = Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        u += int(f[11]); s += int(f[12])
    return u / TICK, s / TICK


def machine_busy():
    """(busy, stolen) seconds over all cores."""
    f = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (f[0] + f[1] + f[2] + f[5] + f[6]) / TICK, f[7] / TICK


def memory(pids):
    """(Rss, Pss) in KiB; Pss counts shared pages once over the tree."""
    rss = pss = 0
    for p in pids:
        try:
            t = Path(f"/proc/{p}/smaps_rollup").read_text()
        except OSError:
            continue
        rss += int(re.search(r"^Rss:\s+(\d+)", t, re.M)[1])
        pss += int(re.search(r"^Pss:\s+(\d+)", t, re.M)[1])
    return rss, pss


def peak(pids):
    """The most that the processes ever held, in KiB."""
    total = 0
    for p in pids:
        try:
            total += int(re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{p}/status").read_text(), re.M)[1])
        except (OSError, TypeError):
            continue
    return total


next_port = 18000 + os.getpid() % 4000


def free_port():
    """Below the range that outgoing connections take theirs from."""
    global next_port
    while True:
        next_port += 1
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", next_port))
                return next_port
            except OSError:
                pass


def wait_port(port, proc, limit=15):
    end = time.time() + limit
    while time.time() < end:
        if proc.poll() is not None:
            raise RuntimeError(f"ended at start, status {proc.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("did not open its port")


def stop(proc):
    if proc is None or proc.poll() is not None:
        return
    pids = tree(proc.pid)
    proc.terminate()
    try:
        proc.wait(2)
    except subprocess.TimeoutExpired:
        pass
    for p in pids:                      # ours, by id
        try:
            os.kill(p, signal.SIGKILL)
        except OSError:
            pass
    proc.wait()


def take(lock, wait):
    """Exclusive lock within `wait` seconds, else a shared one (False)."""
    end = time.time() + wait
    while time.time() < end:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return False


def set_nice(pid, n):
    """Niceness of a process's session: with autogroup scheduling a plain
    nice() counts only inside the session."""
    if n:
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(n))
        except OSError:
            pass


def pinned(core, cmd):
    return cmd if core is None else ["taskset", "-c", str(core)] + cmd


def many_files():
    """As many open files as the system lets us have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for n in (65536, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (n, max(n, hard)))
            return
        except (ValueError, OSError):
            pass
