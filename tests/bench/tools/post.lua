-- A POST of BODY bytes.
wrk.method = "POST"
wrk.body = string.rep("x", tonumber(os.getenv("BODY")))
wrk.headers["Content-Type"] = "application/octet-stream"
