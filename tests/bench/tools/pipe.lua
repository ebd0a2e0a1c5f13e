-- Eight requests at a time.
local text

function init()
   text = string.rep(wrk.format(), 8)
end

function request()
   return text
end
