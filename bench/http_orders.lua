-- Send different orders with wrk, and print its results as one line of JSON.
local number = 0
local headers = {["Content-Type"] = "application/json"}

request = function()
  number = number + 1
  local body = string.format(
    '{"customer_email":"customer%d@example.com","amount":%d.%02d,"currency":"USD","region":"eu"}',
    number % 10000, number % 900 + 1, number % 100)
  return wrk.format("POST", "/orders", headers, body)
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"answers":%d,"seconds":%.6f,"p50":%.3f,"p99":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
