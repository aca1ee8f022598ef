// Each command as a user meets it, on a tiny model.

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/golden.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;

namespace {

struct Files {
  TempDir dir;
  std::string model = dir.write("tiny.gguf", tiny_model().bytes()).string();
};

ProgramResult run_well(const std::vector<std::string>& words, const ProgramInput& input = {}) {
  ProgramResult result = run_program(words, input);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

}  // namespace

TEST_CASE("help and version answer on standard output") {
  CHECK(run_well({"--help"}).out.find("perplexity") != std::string::npos);
  CHECK(run_well({"--version"}).out.starts_with("hybrid-run 0."));
  CHECK(run_well({"help", "sweep"}).out.find("not in this version yet") != std::string::npos);
  CHECK(run_well({"run", "-m", "x", "--help"}).out.starts_with("hybrid-run run: "));
  for (const std::string command :
       {"run", "chat", "eval", "perplexity", "bench", "inspect", "tokenize"}) {
    CHECK(run_well({command, "--help"}).out.starts_with("hybrid-run " + command + ": "));
  }
}

TEST_CASE("run: greedy text is repeatable, seeds differ, the prompt may come from a pipe") {
  const Files f;
  const std::vector<std::string> base{"run", "-m", f.model, "-n", "20"};
  const auto text = [&](std::vector<std::string> more, const ProgramInput& input = {}) {
    std::vector<std::string> words = base;
    words.insert(words.end(), more.begin(), more.end());
    return run_well(words, input).out;
  };
  const std::string greedy = text({"-p", "abc", "--temp", "0"});
  CHECK(text({"-p", "abc", "--temp", "0", "-t", "1", "-ub", "1"}) == greedy);
  CHECK(text({"-f", "-", "--temp", "0"}, {.text = "abc\n"}) == greedy);
  CHECK(text({"-p", "abc", "--seed", "1"}) == text({"-p", "abc", "--seed", "1"}));
  CHECK(text({"-p", "abc", "--seed", "1"}) != text({"-p", "abc", "--seed", "2"}));
}

TEST_CASE("run: a full context ends with that reason") {
  const Files f;
  const auto result = run_well({"run", "-m", f.model, "-p", "abc", "-c", "8"});
  const bool full = result.err.find("context full (-c)") != std::string::npos;
  const bool ended = result.err.find("end of generation") != std::string::npos;
  CHECK((full || ended));
}

TEST_CASE("run: Ctrl-C ends with 130") {
  const Files f;
  // A long prompt for a tiny model, so that there is something to interrupt.
  const std::string big = f.dir.write("big.txt", std::string(400000, 'x')).string();
  const ProgramResult result =
      run_program({"eval", "-m", f.model, "-f", big, "-ub", "8"}, {.interrupt_after_ms = 700});
  CHECK(result.exit_code == 130);
  CHECK(result.out.empty());
  const std::string out = (f.dir / "logits").string();
  const ProgramResult partial =
      run_program({"eval", "-m", f.model, "-f", big, "-b", "8", "--logits-out", out},
                  {.interrupt_after_ms = 700});
  CHECK(partial.exit_code == 130);
  CHECK_FALSE(std::filesystem::exists(out));  // nothing that looks complete
  CHECK_FALSE(std::filesystem::exists(out + ".part"));
}

TEST_CASE("eval: a replayed choice of its own changes nothing") {
  const Files f;
  const std::string a = (f.dir / "a").string(), b = (f.dir / "b").string(),
                    experts = (f.dir / "e").string();
  run_well(
      {"eval", "-m", f.model, "--tokens", "0,5,9,30", "--logits-out", a, "--experts-out", experts});
  run_well(
      {"eval", "-m", f.model, "--tokens", "0,5,9,30", "--logits-out", b, "--experts-in", experts});
  CHECK(read_text(a) == read_text(b));
  CHECK(read_text(a).size() == 4 * 258 * 4);
  CHECK(read_array<int32_t>(experts).size() == 2 * 4 * 3);
}

TEST_CASE(
    "perplexity: a random model is about as lost as its vocabulary is large; KL is 0 with "
    "itself") {
  const Files f;
  std::string text;
  for (int i = 0; i < 200; ++i) text += "some words to score ";
  const std::string file = f.dir.write("t.txt", text).string();
  const std::string saved = (f.dir / "base").string();
  const std::vector<std::string> words{"perplexity", "-m", f.model, "-f", file, "--ctx", "32"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more.begin(), more.end());
    return run_well(all).out;
  };
  const std::string out = with({"--logits-out", saved});
  const double perplexity = std::stod(out.substr(out.find("perplexity") + 10));
  CHECK(perplexity > 50);
  CHECK(perplexity < 2000);
  // 4001 tokens: 125 windows, 15 predictions in each.
  CHECK(out.find("1875 in 125 windows of 32") != std::string::npos);
  const auto mean_kl = [](const std::string& said) {
    return std::stod(said.substr(said.find("mean KL") + 7));
  };
  CHECK(mean_kl(with({"--kl-base", saved})) < 1e-9);
  const std::string again = with({"--kl-base", saved, "-ub", "5"});
  // Five tokens at a time take another form of attention than 32; on matrix units it rounds.
  CHECK(mean_kl(again) < 1e-8);
  const std::string rounded = with({"--kl-base", saved, "-ctk", "f32"});
  const double kl = mean_kl(rounded);
  CHECK(kl > 0);
  CHECK(kl < 1e-4);
}

TEST_CASE("inspect: text and JSON") {
  const Files f;
  CHECK(run_well({"inspect", "-m", f.model}).out.find("blk.1.ffn_gate_exps.weight") !=
        std::string::npos);
  const auto json = nlohmann::json::parse(run_well({"inspect", "-m", f.model, "--json"}).out);
  CHECK(json.at("metadata").at("deepseek2.block_count") == 3);
  CHECK(json.at("tensors").size() > 20);
}

TEST_CASE("tokenize: ids, pieces, and back") {
  const Files f;
  CHECK(run_well({"tokenize", "-m", f.model, "-p", "Hi\n", "--ids"}).out ==
        std::to_string(2 + 'H') + " " + std::to_string(2 + 'i') + " " + std::to_string(2 + '\n') +
            "\n");
  CHECK(run_well({"tokenize", "-m", f.model, "-p", "H", "--ids", "--add-bos"}).out == "0 74\n");
  CHECK(run_well({"tokenize", "-m", f.model, "-p", "H"}).out.find("'H'") != std::string::npos);
  CHECK(run_well({"tokenize", "-m", f.model, "--decode", "0,74,107"}).out == "<bos>Hi\n");
  CHECK(run_well({"tokenize", "-m", f.model, "-p", "<eos>", "--ids", "--special"}).out == "1\n");
  CHECK(run_well({"tokenize", "-m", f.model, "-p", "<eos>", "--ids"}).out != "1\n");
}

TEST_CASE("chat: turns, /reset and /exit from a pipe") {
  const Files f;
  const auto result =
      run_well({"chat", "-m", f.model, "--chat-template", "deepseek2", "-n", "3", "--temp", "0"},
               {.text = "hello\n/reset\nhello\n/exit\nnever\n"});
  const size_t half = result.out.size() / 2;
  CHECK(half > 0);
  CHECK(result.out.substr(0, half) == result.out.substr(half));
}

TEST_CASE("the docs say what --help says") {
  const std::string page = read_text(HYBRID_TEST_SOURCE_DIR "/docs/command-line.md");
  // scripts/update_docs.sh writes the page anew.
  CHECK(page.find(run_well({"--help"}).out) != std::string::npos);
}

#if defined(__x86_64__)
TEST_CASE("a kernel that refuses the tile registers costs the amx level, nothing else") {
  const Files f;
  const ProgramInput refused{.refuse_tiles = true};
  const std::vector<std::string> words{"run", "-m", f.model, "-p", "a", "-n", "2"};
  const ProgramResult well = run_program(words, refused);
  CAPTURE(well.err);
  CHECK(well.exit_code == 0);
  CHECK(well.err.find("amx kernels") == std::string::npos);
  // What the processor lacks is named first, so only one that has all of it names the permission.
  if (run_program(words).err.find("amx kernels") != std::string::npos) {
    CHECK(well.err.find("permission to use tiles (arch_prctl: Operation not permitted)") !=
          std::string::npos);
  }
  std::vector<std::string> forced = words;
  forced.insert(forced.end(), {"--isa", "amx"});
  const ProgramResult bad = run_program(forced, refused);
  CHECK(bad.exit_code != 0);
  CHECK(is_one_error_line(bad.err));
  CHECK(bad.err.find("amx") != std::string::npos);
}
#endif
