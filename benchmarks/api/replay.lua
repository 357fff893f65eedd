-- For wrk: asks the paths of a file, each thread from another place in it, and prints what it has seen as one line of JSON.
--   wrk -t2 -c10 -d20s -s benchmarks/api/replay.lua http://127.0.0.1:8000 -- paths.txt

local paths, at, counter = {}, 0, 0

function setup(thread)
  thread:set("number", counter)
  counter = counter + 1
end

function init(args)
  for line in io.lines(args[1]) do paths[#paths + 1] = line end
  at = number * 7919
end

function request()
  at = at + 1
  return wrk.format("GET", paths[at % #paths + 1])
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "requests_per_second": %.0f, "p50_ms": %.1f, "p95_ms": %.1f, "p99_ms": %.1f, "max_ms": %.0f, "bad": %d}',
    summary.requests, summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
