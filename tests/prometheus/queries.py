"""Shows what the dashboard asks Prometheus, as rules, so that promtool can say whether it could be asked.

    queries.py DASHBOARD
"""

from __future__ import annotations

import json
import pathlib
import sys


def main(dashboard):
    """Every query becomes the expression of a rule. JSON is YAML, which promtool reads."""
    shown = json.loads(pathlib.Path(dashboard).read_text())
    queries = [target["expr"] for panel in shown["panels"] for target in panel["targets"]]
    queries += [told["expr"] for told in shown["annotations"]["list"]]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
