-- The hosts of SERVICES services in turn.
local requests, at = {}, 0

function init()
   for i = 1, tonumber(os.getenv("SERVICES")) do
      requests[i] = wrk.format("GET", nil, { Host = "s" .. i .. ".bench" })
   end
end

function request()
   at = at % #requests + 1
   return requests[at]
end
