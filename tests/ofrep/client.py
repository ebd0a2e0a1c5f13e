"""An application that asks serin for flags through OpenFeature's own provider for Python.

    python client.py URL TOKEN

Each line of the input is a question in JSON, and each line of the output its answer; the first
line says that it is ready.
"""

import json
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext


def main():
    url, token = sys.argv[1:]
    api.set_provider(OFREPProvider(url, headers_factory=lambda: {"Authorization": f"Bearer {token}"}))
    client = api.get_client()
    ask = {
        "boolean": client.get_boolean_details,
        "string": client.get_string_details,
        "number": client.get_float_details,
        "object": client.get_object_details,
    }
    print("ready", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        context = dict(question.get("context") or {})
        about = EvaluationContext(targeting_key=context.pop("targetingKey", None), attributes=context)
        details = ask[question["type"]](question["key"], question["otherwise"], about)
        answer = {
            "value": details.value,
            "variant": details.variant,
            "reason": details.reason,
            "errorCode": details.error_code,
            "flagMetadata": dict(details.flag_metadata or {}),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
