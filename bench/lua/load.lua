-- What wrk sends and what it prints at the end. No response() here: it would cost the client a call for every answer.
-- Arguments: method, a file of header lines, a file with the body ("-" for none). Only where no two requests are to be
-- alike: a file with the head as it is sent, what stands in it for the number, and the block that the first thread
-- counts in (each further thread takes the next one).
local function lines(path)
  if path == "-" then return function() end end
  return io.lines(path)
end

local function content(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- Called for each thread in turn, before its init(), and in a state that all have in common.
local threads = 0
function setup(thread)
  thread:set("thread_index", threads)
  threads = threads + 1
end

-- wrk calls this for every request: one number is written and all is joined in one go. Hence the generated function,
-- which has as many pieces as the head. Nine tenths of 100,000,000 numbers fit in a block, a quarter of an hour.
local function varying(head, mark, block, body)
  local pieces, at = {}, 1
  repeat
    local from, to = head:find(mark, at, true)
    pieces[#pieces + 1] = head:sub(at, (from or 0) - 1)
    at = to and to + 1
  until not at
  pieces[#pieces] = pieces[#pieces] .. body
  local names = {}
  for i = 1, #pieces do names[i] = "p" .. i end
  local source = string.format(
    "local block, n, %s = ... return function() n = n + 1 local number = block .. n return %s end",
    table.concat(names, ", "), table.concat(names, " .. number .. "))
  return assert(loadstring(source))(tostring(block), 10000000, unpack(pieces))
end

function init(args)
  wrk.method = args[1] or "GET"
  for line in lines(args[2] or "-") do
    local name, value = line:match("^([^:]+):%s*(.*)$")
    if name then wrk.headers[name] = value end
  end
  if args[3] and args[3] ~= "-" then
    wrk.body = content(args[3])
  end
  if args[4] then
    -- Defined for these loads alone: without it wrk sends one ready-made request.
    request = varying(content(args[4]), args[5], tonumber(args[6]) + thread_index, wrk.body or "")
  end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    "BENCH requests=%d duration_us=%d bytes=%d connect=%d read=%d write=%d status=%d timeout=%d p50=%d p90=%d p99=%d max=%d\n",
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
