"""Markdown of what compare.py measured. A result is {row: [figures of a round]}; a figure is the median of its
rounds, with the least and the most in brackets."""
import statistics

import works
from works import WORKS


def mm(v, f="{:.1f}"):
    v = [x for x in v if x == x]
    if not v:
        return "-"
    return f"{f.format(statistics.median(v))} ({f.format(min(v))}-{f.format(max(v))})"


def med(rounds, key):
    return statistics.median(x[key] for x in rounds)


def ratios(these, those, key="cpu"):
    """These over those, round by round: what moved both in a round cancels out."""
    beside = {x["round"]: x[key] for x in those}
    return [x[key] / beside[x["round"]] for x in these if beside.get(x["round"])]


def detail(work, res, floors):
    """All that was measured of one work, the cheapest first."""
    w = WORKS[work]
    out = [f"\n### {work}: {w['about']}\n"]
    if not res:
        return "\n".join(out + ["nothing measured"])
    real = [p for p in res if p.peer not in floors] or list(res)
    if w["tool"] == "idle":
        return "\n".join(out + idle(w, res, real))
    best = res[min(real, key=lambda p: med(res[p], "cpu"))]
    out += ["| peer | CPU us/req median (min-max) | ratio, round by round | user+sys | req/s median (min-max) | p50 ms | p99 ms "
            "| proxy core load | peak MiB | canary % | errors | foreign CPU |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for p in sorted(res, key=lambda p: med(res[p], "cpu")):
        r = res[p]
        m = lambda k, f="{:.1f}": f.format(med(r, k))
        out.append(f"| {p}{' (floor)' if p.peer in floors else ''} | {mm([x['cpu'] for x in r])} | "
                   f"{mm(ratios(r, best), '{:.2f}')} | {m('user')}+{m('sys')} | {mm([x['rps'] for x in r], '{:.0f}')} | "
                   f"{mm([x['p50'] for x in r], '{:.2f}')} | {mm([x['p99'] for x in r])} | {m('load', '{:.2f}')} | {m('peak')} | {m('canary')} | "
                   f"{sum(x['err'] for x in r)} | {m('foreign', '{:.2f}')} |")
    if any("calls" in x for r in res.values() for x in r):
        out += ["\nSystem calls per request:\n", "| peer | all | of which |", "|---|---|---|"]
        for p, r in res.items():
            c = r[-1].get("calls", {})
            top = sorted(((k, v) for k, v in c.items() if k != "all"), key=lambda x: -x[1])
            out.append(f"| {p} | {c.get('all', 0):.2f} | {', '.join(f'{k} {v:.2f}' for k, v in top)} |")
    return "\n".join(out)


def idle(w, res, real):
    best = min(med(res[p], "per_conn") for p in real)
    out = [f"{w['conns']} connections. KiB; Pss counts shared pages once over the process tree.\n",
           "| peer | RSS fresh | RSS held | Pss held | bytes per connection | ratio | dead |", "|---|---|---|---|---|---|---|"]
    for p in sorted(res, key=lambda p: med(res[p], "per_conn")):
        r = res[p]
        out.append(f"| {p} | {med(r, 'base_rss'):.0f} | {med(r, 'rss'):.0f} | {med(r, 'pss'):.0f} | "
                   f"{mm([x['per_conn'] for x in r], '{:.0f}')} | {med(r, 'per_conn') / best:.2f} | {sum(x['err'] for x in r)} |")
    return out


def judged(value, goal, f="{:.2f}"):
    """A goal, and whether it is met."""
    return f"≤ {f.format(goal)} {'✓' if value <= goal else '✗'}"


def pairs(res, what, goal):
    """For each peer, its second row beside its first."""
    out = [f"\n| peer | {what}, round by round | goal |", "|---|---|---|"]
    peers = {}
    for row in res:
        peers.setdefault(row.peer, []).append(row)
    for peer, rows in peers.items():
        if len(rows) == 2:
            r = ratios(res[rows[1]], res[rows[0]])
            out.append(f"| {peer} | {mm(r, '{:.2f}')} | {judged(statistics.median(r), goal) if peer == 'serin' else ''} |")
    return "\n".join(out)


def scaling(res):
    """Each size beside the first: all CPU, and that in user mode, which is serin's own."""
    out = ["\n| services x endpoints | CPU us/req | of the smallest | user mode, of the smallest | goal |", "|---|---|---|---|---|"]
    first = next(iter(res.values()), [])
    for row, r in res.items():
        of = ratios(r, first)
        out.append(f"| {row.scale[0]} x {row.scale[1]} | {mm([x['cpu'] for x in r])} | {mm(of, '{:.2f}')} | "
                   f"{mm(ratios(r, first, 'user'), '{:.2f}')} | {judged(statistics.median(of), works.SCALE)} |")
    return "\n".join(out)


def beside_the_goal(work, by, beside):
    """What a work asks for beside CPU per request."""
    notes = []
    model = works.IN_USER_MODE.get(work)
    if model in by:
        r = ratios(by["serin"], by[model], "user")
        notes.append(f"{work}: in user mode {mm(r, '{:.2f}')} of {model}; goal {judged(statistics.median(r), 1)}.")
    if work in works.UNHURRIED:
        p99 = {p: med(by[p], "p99") for p in (*beside, "serin")}
        best = min(p99[p] for p in beside)
        notes.append(f"{work}: p99 in ms: {', '.join(f'{p} {v:.2f}' for p, v in p99.items())}; "
                     f"goal {judged(p99['serin'], best)}.")
    return notes


def summary(results):
    """One line per work: every peer's cost and, beside serin's, the goal."""
    rows = [row for res in results.values() for row in res if row.peer != "serin-sticky"]
    peers = list(dict.fromkeys(row.peer for row in rows))
    out = ["\n## CPU us per request, median (min-max); W5: bytes per idle connection\n",
           f"| work | {' | '.join(peers)} | serin / the cheapest peer | goal | serin's errors |",
           "|---|" + "---|" * (len(peers) + 3)]
    notes = []
    for work, res in results.items():
        key = "per_conn" if WORKS[work]["tool"] == "idle" else "cpu"
        by = {row.peer: r for row, r in res.items()}
        cells = [mm([x[key] for x in by[p]], "{:.0f}" if key == "per_conn" else "{:.1f}") if p in by else "-" for p in peers]
        ratio = goal = errors = "-"
        beside = [p for p in WORKS[work].get("beside", works.MEASURE) if p in by]
        if "serin" in by:
            errors = sum(x["err"] for x in by["serin"])
            if beside:
                r = ratios(by["serin"], by[min(beside, key=lambda p: med(by[p], key))], key)
                ratio = mm(r, "{:.2f}")
                if "goal" in WORKS[work]:
                    goal = judged(statistics.median(r), WORKS[work]["goal"])
                notes += beside_the_goal(work, by, beside)
            if "serin-sticky" in by:
                r = ratios(by["serin-sticky"], by["serin"])
                notes.append(f"{work}: the sticky cookie costs {mm(r, '{:.2f}')} of a split per request; "
                             f"goal {judged(statistics.median(r), works.STICKY)}.")
            if "grows" in WORKS[work]:
                grown = {p: mm([x["grown"] for x in by[p]]) for p in by}
                notes.append(f"{work}: memory grew by MiB: {', '.join(f'{p} {g}' for p, g in grown.items())}; "
                             f"goal for serin {judged(med(by['serin'], 'grown'), WORKS[work]['grows'], '{:.0f}')}.")
        out.append(f"| {work} {WORKS[work]['about']} | {' | '.join(cells)} | {ratio} | {goal} | {errors} |")
    return "\n".join(out + [""] + [f"- {n}" for n in notes])
