// --cache-file as a user meets it.

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/support/golden.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;
namespace fs = std::filesystem;

namespace {

struct CacheFiles {
  TempDir dir;
  std::string model = dir.write("tiny.gguf", tiny_model({.chat_template = "<|im_start|>"}).bytes());
  std::string cache = (dir / "prompt.kv").string();
};

ProgramResult generate(const std::string& model, const std::string& prompt,
                       std::vector<std::string> more, const ProgramInput& input = {}) {
  std::vector<std::string> words{"run", "-m", model, "-p", prompt, "-n", "6", "--temp", "0"};
  words.insert(words.end(), more.begin(), more.end());
  return run_program(words, input);
}

void check_refused(const ProgramResult& result, const std::string& message) {
  CAPTURE(result.err);
  CHECK(result.exit_code == 1);
  CHECK(is_one_error_line(result.err));
  CHECK(result.err.find(message) != std::string::npos);
  CHECK(result.out.empty());
}

}  // namespace

TEST_CASE("a second run reuses what the first one saved, to the same text") {
  const CacheFiles f;
  for (const std::string mla : {"0", "1", "2", "3"}) {
    CAPTURE(mla);
    fs::remove(f.cache);
    const std::vector<std::string> options{"-mla", mla, "--cache-file", f.cache};
    const ProgramResult plain = generate(f.model, "In the beginning", {"-mla", mla});
    const ProgramResult first = generate(f.model, "In the beginning", options);
    CHECK(first.exit_code == 0);
    CHECK(first.out == plain.out);
    CHECK(first.err.find("will hold the sequence at the end") != std::string::npos);
    CHECK(first.err.find("saved 22 tokens to " + f.cache) != std::string::npos);
    const ProgramResult second = generate(f.model, "In the beginning", options);
    CHECK(second.exit_code == 0);
    CHECK(second.out == plain.out);
    CHECK(second.err.find("restored 22 tokens from " + f.cache) != std::string::npos);
    CHECK(second.err.find("prompt 1 tokens (16 more reused)") != std::string::npos);
    CHECK_FALSE(fs::exists(f.cache + ".part"));
  }
}

TEST_CASE("what does not belong together is one line, and the file stays as it was") {
  const CacheFiles f;
  REQUIRE(generate(f.model, "In the beginning", {"--cache-file", f.cache}).exit_code == 0);
  const std::string bytes = read_text(f.cache);
  check_refused(generate(f.model, "In", {"--cache-file", f.cache, "-ctk", "q8_0"}),
                "for -mla 3 -ctk q8_0, found one of -mla 3 -ctk f16");
  check_refused(generate(f.model, "In", {"--cache-file", f.cache, "-c", "10"}), "raise -c to 22");
  const std::string other = f.dir.write("other.gguf", tiny_model({}, 2).bytes()).string();
  check_refused(generate(other, "In", {"--cache-file", f.cache}), "of a model of");
  check_refused(generate(f.model, "In", {"--cache-file", f.model}), "already uses that file");
  check_refused(generate(f.model, "In", {"--cache-file", f.dir.path().string()}), "a folder");
  check_refused(generate(f.model, "In", {"--cache-file", "/nonexistent/x"}), "does not exist");
  CHECK(read_text(f.cache) == bytes);
  CHECK_FALSE(fs::exists(f.cache + ".part"));
  f.dir.write("prompt.kv", bytes.substr(0, bytes.size() / 2));
  check_refused(generate(f.model, "In", {"--cache-file", f.cache}), "damaged");
}

TEST_CASE("Ctrl-C saves what is complete") {
  const CacheFiles f;
  // A prompt that would take minutes.
  const std::string text = f.dir.write("long.txt", std::string(300000, 'a')).string();
  const ProgramResult stopped =
      run_program({"run", "-m", f.model, "-f", text, "-n", "1", "-c", "400000", "-ub", "64", "-mla",
                   "2", "--cache-file", f.cache},
                  {.interrupt_after_ms = 1500});
  CAPTURE(stopped.err);
  CHECK(stopped.exit_code == 130);
  CHECK_FALSE(fs::exists(f.cache + ".part"));
  if (stopped.err.find("nothing was computed") != std::string::npos) return;  // a busy machine
  REQUIRE(stopped.err.find("saved ") != std::string::npos);
  const ProgramResult next =
      generate(f.model, std::string(30, 'a'), {"--cache-file", f.cache, "-c", "400000"});
  CHECK(next.exit_code == 0);
  CHECK(next.err.find("prompt 1 tokens (30 more reused)") != std::string::npos);
}

TEST_CASE("what was computed is saved though no one reads the text") {
  const CacheFiles f;
  if (!fs::exists("/dev/full")) return;
  const ProgramResult result = generate(f.model, "In the beginning", {"--cache-file", f.cache},
                                        {.stdout_file = "/dev/full"});
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("cannot write to standard output") != std::string::npos);
  CHECK(fs::exists(f.cache));
}

TEST_CASE("chat begins with what an earlier one held") {
  const CacheFiles f;
  const std::string demo = HYBRID_TEST_SOURCE_DIR "/models/demo/hybrid-run-demo.gguf";
  const std::vector<std::string> words{
      "chat",   "-m", demo, "--chat-template", "deepseek2", "-n", "5",
      "--temp", "0",  "-v", "--cache-file",    f.cache};
  const ProgramResult first = run_program(words, {.text = "Who was it?\n"});
  CAPTURE(first.err);
  if (first.err.find("vocabulary") != std::string::npos) return;  // no tokens of a template
  CHECK(first.exit_code == 0);
  const ProgramResult second = run_program(words, {.text = "Who was it?\n"});
  CHECK(second.exit_code == 0);
  CHECK(second.out == first.out);
  CHECK(second.err.find("restored ") != std::string::npos);
  CHECK(second.err.find("prompt 1 tokens (") != std::string::npos);
}
