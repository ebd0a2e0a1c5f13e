-- A POST of BODY bytes in four chunks; wrk itself only knows Content-Length.
local text

function init()
   local n = tonumber(os.getenv("BODY")) / 4
   local chunk = string.format("%x\r\n", n) .. string.rep("x", n) .. "\r\n"
   text = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] ..
      "\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n" ..
      string.rep(chunk, 4) .. "0\r\n\r\n"
end

function request()
   return text
end
