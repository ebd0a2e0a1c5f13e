wrk.headers["If-None-Match"] = "\"v1\""
