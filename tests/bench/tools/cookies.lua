-- 1,000 users in turn, each with a key as serin gives it: 128 bits in 22 digits of base64url.
local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
local requests, at = {}, 0

local function key()
   local out = {}
   for i = 1, 21 do
      local d = math.random(64)
      out[i] = digits:sub(d, d)
   end
   -- The last digit has two bits: four values are well formed.
   local d = ({ 1, 17, 33, 49 })[math.random(4)]
   return table.concat(out) .. digits:sub(d, d)
end

function init()
   math.randomseed(7)
   for i = 1, 1000 do
      requests[i] = wrk.format("GET", nil, { Host = wrk.headers["Host"], Cookie = "serin_key=" .. key() })
   end
end

function request()
   at = at % #requests + 1
   return requests[at]
end
