// Whatever is wrong is one line on standard error and the right exit code, and nothing else.

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;

namespace {

struct Files {
  TempDir dir;
  std::string bytes = tiny_model().bytes();
  std::string model = dir.write("tiny.gguf", bytes).string();

  std::string write(const std::string& name, const std::string& content) const {
    return dir.write(name, content).string();
  }
};

void check_error(const std::vector<std::string>& words, int exit_code, const std::string& message,
                 const ProgramInput& input = {}) {
  const ProgramResult result = run_program(words, input);
  CAPTURE(result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(is_one_error_line(result.err));
  CHECK(result.err.find(message) != std::string::npos);
  CHECK(result.out.empty());
}

std::vector<std::string> run_words(const std::string& model) {
  return {"run", "-m", model, "-p", "hello", "-n", "2"};
}

}  // namespace

TEST_CASE("the good file runs") {
  const Files f;
  const ProgramResult result = run_program(run_words(f.model));
  CHECK(result.exit_code == 0);
  CHECK_FALSE(result.out.empty());
  CHECK(result.err.find("generated 2 tokens") != std::string::npos);
}

TEST_CASE("files that are no model") {
  const Files f;
  check_error(run_words(f.write("empty.gguf", "")), 1, "empty.gguf");
  check_error(run_words(f.write("text.gguf", std::string(5000, 'x'))), 1, "expected a GGUF file");
  check_error(run_words("/nonexistent.gguf"), 1, "/nonexistent.gguf");
  check_error(run_words(f.dir.path().string()), 1, f.dir.path().string());
  check_error(run_words(f.write("llama.gguf", tiny_model({.architecture = "llama"}).bytes())), 1,
              "architecture 'llama' is not supported");
}

TEST_CASE("a file cut off at every sixteenth") {
  const Files f;
  for (size_t i = 1; i < 16; ++i) {
    CAPTURE(i);
    const std::string cut = f.bytes.substr(0, f.bytes.size() * i / 16);
    check_error(run_words(f.write("cut.gguf", cut)), 1, "cut.gguf");
  }
}

TEST_CASE("tensors that are missing, of another shape, of no known type") {
  const Files f;
  check_error(
      run_words(f.write("m.gguf", tiny_model({.leave_out = "blk.1.ffn_up_exps.weight"}).bytes())),
      1, "tensor 'blk.1.ffn_up_exps.weight' is missing");
  check_error(
      run_words(f.write("m.gguf", tiny_model({.misshape = "blk.1.attn_output.weight"}).bytes())), 1,
      "tensor 'blk.1.attn_output.weight': expected shape [16, 32], found [16, 33]");
  GgufBuilder gguf = tiny_model();
  gguf.tensor(3).type = 4711;
  check_error(run_words(f.write("m.gguf", gguf.bytes())), 1, "4711");
}

TEST_CASE("a missing part of a split model") {
  const Files f;
  GgufBuilder gguf = tiny_model();
  gguf.add_split_keys(0, 2, 60);
  const std::string part = f.write("s-00001-of-00002.gguf", gguf.bytes());
  check_error(run_words(part), 1, "s-00002-of-00002.gguf");
}

TEST_CASE("tokens, prompts and outputs that cannot be") {
  const Files f;
  check_error({"eval", "-m", f.model, "--tokens", "1,258"}, 1, "token id 258 is out of range");
  check_error({"eval", "-m", f.model, "--tokens", "1,-2"}, 1, "token id -2 is out of range");
  check_error({"eval", "-m", f.model, "--tokens", "99999999999"}, 1, "is out of range");
  check_error({"eval", "-m", f.model, "--tokens", "1,x"}, 2, "found 'x'");
  check_error({"eval", "-m", f.model, "--tokens", ""}, 2, "--tokens");
  check_error({"run", "-m", f.model, "-p", "ab\xff", "-n", "1"}, 1, "UTF-8");
  check_error({"run", "-m", f.model, "-p", "too long", "-c", "4"}, 1,
              "the prompt has 9 tokens, the context 4");
  check_error({"eval", "-m", f.model, "--tokens", "1", "--logits-out", "/nonexistent/x"}, 1,
              "/nonexistent/x: cannot open for output");
  check_error({"eval", "-m", f.model, "--tokens", "1", "--experts-in", f.model}, 1,
              "expected 24 bytes");
  check_error({"run", "-m", f.model, "-f", "/nonexistent.txt"}, 1, "/nonexistent.txt");
  check_error({"perplexity", "-m", f.model, "-f", f.write("short.txt", "short")}, 1,
              "the text has 6 tokens, a window needs 512");
  check_error({"chat", "-m", f.model}, 1, "known chat formats", {.text = "hi\n"});
  check_error({"chat", "-m", f.model, "--chat-template", "chatml"}, 1, "<|im_start|>",
              {.text = "hi\n"});
}

TEST_CASE("an output never overwrites what the run reads, nor another output") {
  const Files f;
  check_error({"eval", "-m", f.model, "--tokens", "1", "--logits-out", f.model}, 1,
              "this run already uses that file");
  CHECK(std::filesystem::file_size(f.model) == f.bytes.size());
  const std::string out = (f.dir / "x").string();
  check_error({"eval", "-m", f.model, "--tokens", "1", "--logits-out", out, "--experts-out", out},
              1, "this run already uses that file");
  const std::string text = f.write("t.txt", std::string(300, 'a'));
  const std::string base = f.write("base", "");
  check_error({"perplexity", "-m", f.model, "-f", text, "--ctx", "64", "--kl-base", base,
               "--logits-out", base},
              1, "this run already uses that file");
}

TEST_CASE("more context than memory is refused before anything is said") {
  const Files f;
  check_error({"run", "-m", f.model, "-p", "x", "-c", "1073741824", "-b", "1073741824", "-ub",
               "1073741824"},
              1, "not enough memory");
  check_error({"run", "-m", f.model, "-p", "x", "-ub", "4096"}, 2, "-ub 4096 is more than -b 2048");
}

TEST_CASE("a full disk is an error") {
  const Files f;
  if (!std::filesystem::exists("/dev/full")) return;
  const ProgramResult result =
      run_program({"inspect", "-m", f.model}, {.stdout_file = "/dev/full"});
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("cannot write to standard output") != std::string::npos);
  const ProgramResult logits =
      run_program({"eval", "-m", f.model, "--tokens", "1", "--logits-out", "/dev/full"});
  CHECK(logits.exit_code == 1);
  CHECK(logits.err.find("/dev/full: cannot write for output") != std::string::npos);
}

TEST_CASE("a config that is wrong is one line with the place") {
  const std::string bad = HYBRID_TEST_SOURCE_DIR "/tests/placement/bad_configs/";
  const auto check = [&](const std::string& file, const std::string& message) {
    check_error({"run", "--demo", "-p", "x", "--config", bad + file}, 1, message);
  };
  check("json_binary.json", "line 1, column 1: not valid JSON");
  check("json_empty.json", "the config file is empty");
  check("unknown_key_control.json", "line 2, column 3: unknown key \"thr\\x1b[31meads");
  check("regex_parenthesis.json",
        "line 2, column 13: key \"rules[0]\": rule ffn_(up=CPU: not a reg");
  check("rule_device_type.json", "line 5, column 16: key \"rules[1].device\": expected a string");
  check("budget_both.json", "line 2, column 15: key \"devices[0]\": expected either");
  check_error({"run", "--demo", "-p", "x", "--config", "/nonexistent.json"}, 1,
              "/nonexistent.json: cannot read the config file");
  check_error({"run", "-m", "x", "-p", "y", "-ot", "ffn_(=CPU"}, 2, "not a regular expression");
}

TEST_CASE("a wrong command line exits with 2") {
  check_error({}, 2, "expected a command");
  check_error({"run", "-p", "x"}, 2, "`run` needs -m");
  check_error({"run", "--demo"}, 2, "needs either -p TEXT or -f FILE");
  check_error({"run", "--demo", "-m", "x", "-p", "y"}, 2, "leave -m out");
  check_error({"run", "-m", "x", "-p", "y", "--numa", "all"}, 2,
              "--numa: expected distribute, isolate, numactl, off, found 'all'");
  check_error({"frobnicate"}, 2, "unknown command");
}
