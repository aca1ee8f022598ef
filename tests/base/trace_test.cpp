// Traces are JSON as Chrome reads it, whatever names hold, and end where they are full.

#include "base/trace.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

using namespace hybrid;

TEST_CASE("zones of several threads, with details") {
  Trace trace;
  const uint32_t cpu = trace.track("CPU"), other = trace.track("SIM0 \"x\"\n");
  CHECK(trace.track("CPU") == cpu);
  {
    const TraceZone outer(&trace, cpu, "outer");
    const TraceZone inner(&trace, cpu, "inner", "blk.\\0");
  }
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 100; ++n) const TraceZone zone(&trace, other, "work");
      });
    }
  }
  const TraceZone none(nullptr, 0, "none");
  CHECK(trace.n_zones() == 402);
  CHECK(trace.n_dropped() == 0);
  const auto json = nlohmann::json::parse(trace.json());
  int n_work = 0;
  bool has_inner = false;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "M") continue;
    CHECK(event["dur"].get<double>() >= 0);
    n_work += event["name"] == "work" && event["tid"] == other ? 1 : 0;
    if (event["name"] == "inner") has_inner = event["args"]["of"] == "blk.\\0";
  }
  CHECK(n_work == 400);
  CHECK(has_inner);
  CHECK(json["traceEvents"][1]["args"]["name"] == "SIM0 \"x\"\n");
}
