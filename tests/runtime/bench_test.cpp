#include "runtime/bench.h"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "runtime/bench_report.h"
#include "runtime/step_bytes.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

const AttentionOptions kF16{};

struct Tiny {
  TempDir dir;
  Model model{dir.write("tiny.gguf", tiny_model().bytes()), ExpertGroups::automatic};
};

BenchRow sample_row() {
  BenchRow row;
  row.model = "a, \"b\" | c";
  row.size_bytes = 3ull << 30;
  row.n_params = 15706484224;
  row.isa = "avx2";
  row.n_threads = 4;
  row.n_batch = 2048;
  row.n_ubatch = 512;
  row.ctk = "f16";
  row.test = {.n_gen = 64, .n_depth = 4096};
  row.result = {{10, 14}, 0.5e9};
  row.peak_gb_per_s = 24;
  return row;
}

}  // namespace

TEST_CASE("tests have llama-bench's names") {
  CHECK(BenchTest{.n_prompt = 512}.name() == "pp512");
  CHECK(BenchTest{.n_gen = 128}.name() == "tg128");
  CHECK(BenchTest{.n_gen = 64, .n_depth = 4096}.name() == "tg64@pp4096");
  CHECK(BenchTest{.n_gen = 64, .n_depth = 4096}.n_ctx() == 4160);
}

TEST_CASE("mean, deviation and rate of the samples") {
  const BenchResult result{{1, 2, 6}, 2e9};
  CHECK(result.tps_mean() == doctest::Approx(3));
  CHECK(result.tps_stddev() == doctest::Approx(std::sqrt(7.0)));  // (4 + 1 + 9) / 2
  CHECK(result.gb_per_s() == doctest::Approx(6));
  CHECK(BenchResult{{5}, 1}.tps_stddev() == 0);
}

TEST_CASE("a sample for each repetition, and the bytes of the test's steps") {
  const Tiny tiny;
  ExecutionOptions execution;
  execution.n_batch = 4;
  execution.n_ubatch = 3;
  BenchParams params;
  params.n_repetitions = 3;
  uint32_t n_told = 0;
  params.on_run = [&](double tps) {
    CHECK(tps > 0);
    ++n_told;
  };
  const auto run = [&](const BenchTest& test) {
    const auto result = run_bench_test(tiny.model, execution, test, params);
    REQUIRE(result.has_value());
    CHECK(result->tps_samples.size() == 3);
    return result->bytes_per_token;
  };
  CHECK(run({.n_prompt = 5}) ==
        doctest::Approx(prefill_bytes(tiny.model, kF16, 5, 4, 3) / 5.0).epsilon(1e-12));
  const auto at = [&](uint64_t n_ctx) {
    return static_cast<double>(decode_bytes(tiny.model, kF16, n_ctx));
  };
  CHECK(run({.n_gen = 2}) == doctest::Approx((at(1) + at(2)) / 2).epsilon(1e-12));
  CHECK(run({.n_gen = 2, .n_depth = 7}) == doctest::Approx((at(8) + at(9)) / 2).epsilon(1e-12));
  CHECK(n_told == 9);
}

TEST_CASE("the stop flag ends a test") {
  const Tiny tiny;
  const std::atomic<bool> stop{true};
  BenchParams params;
  params.stop = &stop;
  CHECK_FALSE(run_bench_test(tiny.model, {}, {.n_prompt = 4}, params).has_value());
  CHECK_FALSE(run_bench_test(tiny.model, {}, {.n_gen = 4}, params).has_value());
}

TEST_CASE("jsonl: one object a line, numbers in base units") {
  BenchReport report(BenchFormat::jsonl, {});
  const std::string line = report.lines(sample_row());
  CHECK(line.find('\n') == line.size() - 1);
  const auto json = nlohmann::json::parse(line);
  CHECK(json.at("model") == "a, \"b\" | c");
  CHECK(json.at("size_bytes") == 3ull << 30);
  CHECK(json.at("test") == "tg64@pp4096");
  CHECK(json.at("n_depth") == 4096);
  CHECK(json.at("tps_mean") == 12.0);
  CHECK(json.at("tps_stddev") == doctest::Approx(std::sqrt(8.0)));
  CHECK(json.at("tps_samples") == nlohmann::json{10.0, 14.0});
  CHECK(json.at("gbps") == 6.0);
  CHECK(json.at("pct_of_peak_bandwidth") == 25.0);
}

TEST_CASE("csv: the header once, then as many cells as it has columns") {
  BenchReport report(BenchFormat::csv, {});
  BenchRow row = sample_row();
  row.model = "plain";
  const auto first = split(report.lines(row), '\n');
  REQUIRE(first.size() == 3);  // the last is empty
  CHECK(first[0].starts_with("model,size_bytes,n_params,device,isa,n_threads,"));
  CHECK(first[1].starts_with("plain,3221225472,15706484224,cpu,avx2,4,"));
  CHECK(first[1].find(",10.0;14.0,") != std::string::npos);
  CHECK(split(first[0], ',').size() == bench_json(row).size());
  CHECK(split(first[1], ',').size() == bench_json(row).size());
  const std::string second = report.lines(sample_row());
  CHECK(second.starts_with(R"("a, ""b"" | c",)"));
  CHECK(split(second, '\n').size() == 2);
}

TEST_CASE("md: a table whose lines have the same columns") {
  BenchReport report(BenchFormat::md, {"n_ubatch", "ctk"});
  const auto lines = split(report.lines(sample_row()), '\n');
  REQUIRE(lines.size() == 4);
  CHECK(lines[0].find("| n_ubatch | ctk  |           test |") != std::string::npos);
  CHECK(lines[0].find("n_batch") == std::string::npos);
  CHECK(lines[1].find("| ----------------: |") != std::string::npos);
  CHECK(lines[2].starts_with("| a, \"b\" \\| c | 3.00 GiB | 15.71 B | avx2        |"));
  CHECK(lines[2].find("|      12.00 ± 2.83 |") != std::string::npos);
  CHECK(lines[2].ends_with("|    6.00 |           25.0 |         - |"));
  CHECK(split(lines[0], '|').size() == split(lines[1], '|').size());
  CHECK(split(lines[0], '|').size() + 1 == split(lines[2], '|').size());  // the name's own
  CHECK(report.lines(sample_row()) == lines[2] + "\n");
}
