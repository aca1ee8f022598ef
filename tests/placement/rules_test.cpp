#include "placement/rules.h"

#include <doctest/doctest.h>

#include "tests/support/expect_error.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr DeviceName kCpu{DeviceKind::cpu, 0}, kCuda0{DeviceKind::cuda, 0};
constexpr DeviceName kCuda1{DeviceKind::cuda, 1};

/// "PATTERN>DEVICE PATTERN>DEVICE"
std::string text_of(const std::vector<PlacementRule>& rules) {
  std::string out;
  for (const PlacementRule& rule : rules) {
    out += (out.empty() ? "" : " ") + rule.pattern + ">" + hybrid::text_of(rule.device);
  }
  return out;
}

std::string parsed(std::string_view text) { return text_of(parse_rules(text, "-ot")); }

/// The device of the first rule that matches, or "".
std::string device_of(const std::vector<PlacementRule>& rules, std::string_view tensor) {
  const auto found = RuleMatcher(rules).matches(tensor);
  return found.empty() ? "" : hybrid::text_of(rules[found.front()].device);
}

}  // namespace

TEST_CASE("device names are read as they are written") {
  for (const char* word : {"CPU", "DISK", "CUDA0", "CUDA15", "SIM1", "NODE0"}) {
    CAPTURE(word);
    REQUIRE(parse_device(word));
    CHECK(hybrid::text_of(*parse_device(word)) == word);
  }
  for (const char* word : {"", "cpu", "CPU0", "CUDA", "CUDA-1", "CUDA01", "CUDA99999999999", "GPU",
                           "NODE1x", "DISK0"}) {
    CAPTURE(word);
    CHECK(!parse_device(word));
  }
}

TEST_CASE("an unknown device names the one that was meant") {
  const auto meant = [](const char* word) { return unknown_device_text(word); };
  CHECK(meant("CUDA") ==
        "unknown device 'CUDA' (did you mean CUDA0?); devices are CPU, CUDA0.., SIM0.., DISK");
  CHECK(meant("cuda:1").find("did you mean CUDA1?") != std::string::npos);
  CHECK(meant("GPU0").find("did you mean CUDA0?") != std::string::npos);
  CHECK(meant("cpu").find("did you mean CPU?") != std::string::npos);
  CHECK(meant("Vulkan7").find("did you mean") == std::string::npos);
}

TEST_CASE("rules as users type them") {
  CHECK(parsed(R"(\.ffn_.*_exps\.=CPU)") == R"(\.ffn_.*_exps\.>CPU)");
  CHECK(parsed("exps=CPU") == "exps>CPU");
  CHECK(parsed(R"(blk\.(?:[0-9]|1[0-9])\.ffn_.*_exps.*=CUDA0)") ==
        R"(blk\.(?:[0-9]|1[0-9])\.ffn_.*_exps.*>CUDA0)");
  CHECK(parsed("a=CUDA0,b=CUDA1;c=CPU") == "a>CUDA0 b>CUDA1 c>CPU");
  CHECK(parsed("a=CPU,") == "a>CPU");
}

TEST_CASE("commas and equals signs are safe inside an expression") {
  CHECK(parsed(R"(blk\.[0-9]{1,2}\.=CUDA0,x=CPU)") == R"(blk\.[0-9]{1,2}\.>CUDA0 x>CPU)");
  CHECK(parsed("(?=attn)attn=CPU") == "(?=attn)attn>CPU");
  CHECK(parsed("a=b=CPU") == "a=b>CPU");
  CHECK(parsed("(a,b;c)=DISK") == "(a,b;c)>DISK");
}

TEST_CASE("what is no rule says what is wrong") {
  const auto error = [](const char* text) { return error_of([&] { parse_rules(text, "-ot"); }); };
  CHECK(error("") == "-ot: expected a rule RE=DEVICE, as in \"\\.ffn_.*_exps\\.=CPU\", found ''");
  CHECK(error("exps").find("expected a rule RE=DEVICE") != std::string::npos);
  CHECK(error("=CPU").find("expected a rule RE=DEVICE") != std::string::npos);
  CHECK(error("a=CPU,,b=CPU") == "");  // ",b" is an expression
  CHECK(error("exps=GPU").find("unknown device 'GPU' (did you mean CUDA0?)") != std::string::npos);
  CHECK(error("a=CPU,exps=cpu").find("unknown device 'cpu'") != std::string::npos);
  CHECK(error("ffn_(=CPU") ==
        "-ot: rule ffn_(=CPU: not a regular expression: missing closing parenthesis, at character "
        "6");
}

TEST_CASE("a search is unanchored and the first match wins") {
  const auto rules = parse_rules(R"(blk\.1\.=CUDA1,ffn_.*_exps=CPU,blk\.=CUDA0)", "-ot");
  CHECK(device_of(rules, "blk.1.ffn_up_exps.weight") == "CUDA1");
  CHECK(device_of(rules, "blk.2.ffn_up_exps.weight") == "CPU");
  CHECK(device_of(rules, "blk.11.attn_q.weight") == "CUDA0");
  CHECK(device_of(rules, "output.weight") == "");
  CHECK(RuleMatcher(rules).matches("blk.1.ffn_up_exps.weight") == std::vector<uint32_t>{0, 1, 2});
}

TEST_CASE("an expression that backtracks without end is refused, not waited for") {
  const auto rules = parse_rules("(a+)+$=CPU", "-ot");
  const std::string name = std::string(60, 'a') + "b";
  const std::string error = error_of([&] { RuleMatcher(rules).matches(name); });
  CHECK(error.find("-ot: rule (a+)+$=CPU: on the name a") != std::string::npos);
  CHECK(error.find("match limit exceeded") != std::string::npos);
}

TEST_CASE("ranges of experts") {
  CHECK(ExpertRange::parse("0-31") == ExpertRange{0, 31});
  CHECK(ExpertRange::parse("7") == ExpertRange{7, 7});
  CHECK(ExpertRange{0, 31}.text() == "0-31");
  CHECK(ExpertRange{7, 7}.text() == "7");
  for (const char* text : {"", "-", "3-", "-3", "5-2", "1-2-3", "a", "1,2", " 1"}) {
    CAPTURE(text);
    CHECK(!ExpertRange::parse(text));
  }
}

TEST_CASE("shorthands for experts become rules") {
  const auto all = shorthand_rules({.cpu_moe = true}, 4, {});
  CHECK(device_of(all, "blk.3.ffn_down_exps.weight") == "CPU");
  CHECK(device_of(all, "blk.3.ffn_down_shexp.weight") == "");
  CHECK(all.front().origin == "--cpu-moe");
  const auto some = shorthand_rules({.n_cpu_moe = 2}, 12, {});
  CHECK(text_of(some) == R"(^blk\.(0|1)\.ffn_(up|gate|gate_up|down)_exps\.>CPU)");
  CHECK(device_of(some, "blk.1.ffn_up_exps.weight") == "CPU");
  CHECK(device_of(some, "blk.11.ffn_up_exps.weight") == "");
  CHECK(shorthand_rules({.n_cpu_moe = 0}, 12, {}).empty());
  CHECK(shorthand_rules({.n_cpu_moe = 99}, 2, {}).size() == 1);
}

TEST_CASE("-ngl puts the last layers on GPUs, and the output behind them") {
  const DeviceName gpus[] = {kCuda0, kCuda1};
  const auto rules = [&](uint32_t n, std::vector<double> shares, size_t n_gpus) {
    return text_of(shorthand_rules({.n_gpu_layers = n, .tensor_split = std::move(shares)}, 4,
                                   std::span(gpus).first(n_gpus)));
  };
  CHECK(rules(99, {}, 1) == R"(^blk\.(0|1|2|3)\.>CUDA0 ^output>CUDA0 ^token_embd>CPU)");
  CHECK(rules(5, {}, 1) == rules(99, {}, 1));
  CHECK(rules(4, {}, 1) == R"(^blk\.(0|1|2|3)\.>CUDA0 ^output>CPU ^token_embd>CPU)");
  CHECK(rules(1, {}, 1) == R"(^blk\.(3)\.>CUDA0 ^blk\.(0|1|2)\.>CPU ^output>CPU ^token_embd>CPU)");
  CHECK(rules(0, {}, 0) == R"(^blk\.(0|1|2|3)\.>CPU ^output>CPU ^token_embd>CPU)");
  CHECK(rules(4, {}, 2) ==
        R"(^blk\.(0|1)\.>CUDA0 ^blk\.(2|3)\.>CUDA1 ^output>CPU ^token_embd>CPU)");
  CHECK(rules(99, {}, 2) ==
        R"(^blk\.(0|1|2)\.>CUDA0 ^blk\.(3)\.>CUDA1 ^output>CUDA1 ^token_embd>CPU)");
  CHECK(rules(4, {3, 1}, 2) ==
        R"(^blk\.(0|1|2)\.>CUDA0 ^blk\.(3)\.>CUDA1 ^output>CPU ^token_embd>CPU)");
  CHECK(rules(4, {0, 1}, 2) == R"(^blk\.(0|1|2|3)\.>CUDA1 ^output>CPU ^token_embd>CPU)");
}

TEST_CASE("shorthands that cannot be carried out say so") {
  const DeviceName gpus[] = {kCuda0};
  const auto error = [&](PlacementShorthands s, size_t n_gpus) {
    return error_of([&] { shorthand_rules(s, 4, std::span(gpus).first(n_gpus)); });
  };
  CHECK(error({.n_gpu_layers = 3}, 0) == "-ngl 3: there is no GPU; use -ngl 0, or leave it out");
  CHECK(error({.n_gpu_layers = 3, .tensor_split = {1, 1}}, 1) == "-ts: 2 shares for 1 GPU");
  CHECK(error({.n_gpu_layers = 3, .tensor_split = {0}}, 1) ==
        "-ts: expected shares of at least 0, one of them above it");
  CHECK(error({.tensor_split = {1}}, 1) == "-ts: it shares out the layers of -ngl; give -ngl, too");
}
