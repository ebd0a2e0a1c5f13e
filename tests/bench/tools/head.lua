-- wrk waits for the body that Content-Length announces, so what is asked for is empty.
wrk.method = "HEAD"
