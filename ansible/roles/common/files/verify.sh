# shellcheck shell=sh
# What the scripts in roles' tasks/verify.yml share; tasks/ask.yml of `common` puts it before each of them. Each line that
# they say is something that is wrong, and the next step. They change nothing.
#
# By standard input come $again, the playbook that puts right what the role makes here, and $secret: arguments are
# everybody's to read.
set -u
IFS= read -r again || again=playbooks/site.yml
IFS= read -r secret || secret=

# runs UNIT…: each is active, and starts with the host.
runs() {
    for unit in "$@"; do
        systemctl is-active --quiet "$unit" ||
            echo "$unit doesn't run: \`journalctl -u $unit -n 50\` says why, and $again starts it."
        systemctl is-enabled --quiet "$unit" || echo "$unit doesn't start with the host: $again has it do so."
    done
}

# takes FILE COMMAND…: the command finds nothing wrong with the file.
takes() {
    file=$1
    shift
    said=$("$@" 2>&1 </dev/null) ||
        echo "$file isn't valid: $(printf '%s' "$said" | tail -n 3 | tr '\n' ' '). $again writes it anew."
}

# answers URL STATUS TEXT: with that status, and that text in its first MiB.
answers() {
    python3 -c '
import sys, urllib.error, urllib.request
from http.client import HTTPException

url, status, text, again = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    try:
        reply = opener.open(url, timeout=10)
    except urllib.error.HTTPError as refusal:
        reply = refusal
    said = reply.read(1 << 20).decode(errors="replace")
    if (str(reply.getcode()), text in said) != (status, True):
        wanted = f"{status} with {text}" if text else status
        print(f"{url} answers {reply.getcode()}, and not {wanted}: see its log; {again} waits for it.")
except (OSError, HTTPException) as lost:
    print(f"{url} gives no answer ({lost}): see whether it runs and listens there; {again} sees to both.")
' "$@" "$again"
}

# greets HOST PORT TEXT: who listens there begins with that text; without one it is enough that somebody does.
greets() {
    python3 -c '
import socket, sys

host, port, text, again = sys.argv[1:]
try:
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        said = peer.recv(512).decode(errors="replace") if text else ""
    if not said.startswith(text):
        print(f"{host}:{port} begins with {said[:80]!r}, and not with {text!r}: see what listens there.")
except OSError as lost:
    print(f"{host}:{port} takes no connection ({lost}): {again} sees to who listens there.")
' "$@" "$again"
}

# lasts FILE NEXT: a certificate that doesn't end within a month.
lasts() {
    openssl x509 -noout -checkend 2592000 -in "$1" >/dev/null 2>&1 ||
        echo "$1 is no certificate that lasts for a month yet: $2."
}

# redis PORT WORD…: what Redis or a sentinel on this host answers to those who watch it.
redis() {
    REDISCLI_AUTH=$secret timeout 5 redis-cli --user sentinel --no-auth-warning -p "$@" </dev/null 2>&1
}
