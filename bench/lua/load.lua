-- What wrk sends and what it prints at the end. No response() here: it would cost the client a call for every answer.
-- Arguments: method, a file of header lines, a file with the body ("-" for none).
local function lines(path)
  if path == "-" then return function() end end
  return io.lines(path)
end

function init(args)
  wrk.method = args[1] or "GET"
  for line in lines(args[2] or "-") do
    local name, value = line:match("^([^:]+):%s*(.*)$")
    if name then wrk.headers[name] = value end
  end
  if args[3] and args[3] ~= "-" then
    local file = assert(io.open(args[3], "rb"))
    wrk.body = file:read("*a")
    file:close()
  end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    "BENCH requests=%d duration_us=%d bytes=%d connect=%d read=%d write=%d status=%d timeout=%d p50=%d p90=%d p99=%d max=%d\n",
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
