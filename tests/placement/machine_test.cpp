#include "placement/machine.h"

#include <doctest/doctest.h>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;

MachineSpec read(const std::string& text) {
  const TempDir dir;
  return read_machine(dir.write("m.json", text).string());
}

std::string error(const std::string& text) {
  const std::string message = error_of([&] { read(text); });
  return message.empty() ? "" : message.substr(message.find("m.json") + 8);
}

/// A machine whose "cpu" has these members behind the ones that are needed.
std::string with_cpu(const std::string& members) {
  return R"({"name": "x", "cpu": {"sockets": 2, "cores": 8, "isa": "avx2", "memory_gib": 64)" +
         members + "}}";
}

}  // namespace

TEST_CASE("a machine in full, in base units") {
  const MachineSpec m = read(R"({
    "name": "1x RTX 4090, 512 GiB DDR5",
    "cpu": {"sockets": 2, "cores": 64, "isa": "amx", "memory_gib": 512, "bandwidth_gbs": 460,
            "prefill_tflops": 12.5, "node_memory_gib": [256, 256], "disk_gbs": 6,
            "rates": [{"op": "experts", "type": "Q4_K", "tokens": 32, "gflops": 640.5}]},
    "gpus": [{"name": "RTX 4090", "memory_bytes": 25757220864, "bandwidth_gbs": 1008,
              "tflops": 165, "pcie_gbs": 25, "types": ["F16", "Q4_K"]}, {"name": "T4", "memory_gib": 16}]})");
  CHECK(m.name == "1x RTX 4090, 512 GiB DDR5");
  CHECK(m.cpu == MachineCpu{.n_sockets = 2,
                            .n_cores = 64,
                            .isa = SimdLevel::amx,
                            .memory_bytes = 512 * kGib,
                            .node_memory_bytes = {256 * kGib, 256 * kGib},
                            .bandwidth_bytes_per_s = 460e9,
                            .prefill_flop_per_s = 12.5e12,
                            .disk_bytes_per_s = 6e9,
                            .rates = {{.op = RateOp::experts,
                                       .type = DType::q4_k,
                                       .n_tokens = 32,
                                       .flop_per_s = 640.5e9}}});
  REQUIRE(m.gpus.size() == 2);
  CHECK(m.gpus[0] == MachineGpu{.name = "RTX 4090",
                                .memory_bytes = 25757220864,
                                .bandwidth_bytes_per_s = 1008e9,
                                .flop_per_s = 165e12,
                                .pcie_bytes_per_s = 25e9,
                                .types = {DType::f16, DType::q4_k}});
  CHECK(m.gpus[1].name == "T4");
  CHECK_FALSE(m.gpus[1].flop_per_s.has_value());
}

TEST_CASE("rates and GPUs may be missing, sizes may not") {
  const MachineSpec m = read(with_cpu(""));
  CHECK(m.gpus.empty());
  CHECK_FALSE(m.cpu.bandwidth_bytes_per_s.has_value());
  CHECK(m.cpu.node_memory_bytes.empty());
  CHECK(error(R"({"name": "x", "cpu": {"sockets": 1, "cores": 8, "isa": "avx2"}})") ==
        "line 1, column 22: key \"cpu\": expected either \"memory_gib\" or \"memory_bytes\", found "
        "neither");
  CHECK(error(R"({"name": "x"})") == "line 1, column 1: expected a key \"cpu\", found none");
}

TEST_CASE("nodes may have rates of their own") {
  const MachineSpec m = read(with_cpu(
      R"(, "node_memory_gib": [32, 32], "node_bandwidth_gbs": [90, 80.5], "remote_bandwidth_gbs": 40)"));
  CHECK(m.cpu.node_bandwidth_bytes_per_s == std::vector{90e9, 80.5e9});
  CHECK(m.cpu.remote_bytes_per_s == 40e9);
  CHECK_FALSE(m.cpu.bandwidth_bytes_per_s.has_value());
  CHECK(error(with_cpu(R"(, "node_bandwidth_gbs": [], "remote_bandwidth_gbs": 40)"))
            .ends_with("expected a rate of each node, found 0"));
}

TEST_CASE("what is no machine") {
  CHECK(error(with_cpu(R"(, "bandwidth_gps": 1)"))
            .ends_with(R"(unknown key "bandwidth_gps"; did you mean "bandwidth_gbs"?)"));
  CHECK(error(with_cpu(R"(, "bandwidth_gbs": 0)")).find("above 0") != std::string::npos);
  CHECK(error(with_cpu(R"(, "bandwidth_gbs": 460e9)")).find("at most 1") != std::string::npos);
  CHECK(
      error(with_cpu(R"(, "node_memory_gib": [32, 16])"))
          .ends_with("expected nodes that hold the machine's 64.00 GiB together, found 48.00 GiB"));
  CHECK(error(with_cpu(R"(, "node_memory_gib": [32.1, 31.9])")) == "");
  CHECK(error(R"({"name": "x", "cpu": {"sockets": 2, "cores": 1, "isa": "avx2", "memory_gib": 1}})")
            .ends_with(R"(key "cpu.cores": expected a whole number from 2 to 65536, found 1)"));
  CHECK(error(R"({"name": "x", "cpu": {"sockets": 1, "cores": 1, "isa": "avx", "memory_gib": 1}})")
            .ends_with("expected scalar, avx2, avx512_vnni, amx, found \"avx\""));
}
