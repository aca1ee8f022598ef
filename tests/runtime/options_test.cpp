#include "runtime/options.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

Options parse(const std::string& line) { return parse_command_line(split(line, ' ')); }

std::string error(const std::string& line) {
  return error_of([&] { parse(line); });
}

/// The error for a config file with this text, or "" where it is taken.
std::string config_error(const std::string& json) {
  const TempDir dir;
  const std::string path = dir.write("c.json", json).string();
  const std::string message = error_of([&] {
    parse_command_line({"run", "-p", "x", "--config", path});
  });
  return message.empty() ? "" : message.substr(message.find("c.json") + 8);
}

}  // namespace

TEST_CASE("single-dash words, long names, = and bare toggles") {
  const Options o =
      parse("run -m a.gguf -ub 64 --temp=0.5 -n -1 -fmoe -t 3 -fa 0 -mla 2 --demo off");
  CHECK(o.get("model") == "a.gguf");
  CHECK(o.get_integer("ubatch-size") == 64);
  CHECK(o.get_number("temp") == 0.5);
  CHECK(o.get_integer("n-predict") == -1);
  CHECK(o.get_toggle("fused-moe"));
  CHECK_FALSE(parse("run -fmoe 0").get_toggle("fused-moe"));
  CHECK(o.get_integer("threads") == 3);
  CHECK_FALSE(o.get_toggle("demo"));
  CHECK(o.get_integer("top-k") == 40);  // a default
  CHECK(parse("run --demo -p x").get("prompt") == "x");
  CHECK(parse("run --special true -n=5").get_integer("n-predict") == 5);
  CHECK(parse("perplexity -c 64").get_integer("ctx") == 64);
  CHECK(parse("run -p -h").get("prompt") == "-h");
  CHECK(parse("run -m x --help").question() == Question::help);
  CHECK(parse("--version").question() == Question::version);
  CHECK(parse("help sweep").command() == "sweep");
}

TEST_CASE("a wrong command line is a UsageError that helps") {
  CHECK_THROWS_AS(parse("run --tempp 1"), UsageError);
  CHECK(error("run --tempp 1") == "unknown option '--tempp'; did you mean --temp?");
  CHECK(error("rum -p x") == "unknown command 'rum'; did you mean run?");
  CHECK(error("run -ub x") == "-ub: expected a whole number from 1 to 1073741824, found 'x'");
  CHECK(error("run -ub 0").starts_with("-ub: expected a whole number from 1"));
  CHECK(error("run -ub 99999999999999999999").starts_with("-ub: expected"));
  CHECK(error("run -n -2").starts_with("-n: expected a whole number from -1"));
  CHECK(error("run --temp nan").starts_with("--temp: expected a number"));
  CHECK(error("run -n") == "-n needs a value (N)");
  CHECK(error("run --numa all") ==
        "--numa: expected distribute, isolate, numactl, off, found 'all'");
  CHECK(error("run -ctk q5") == "-ctk: expected f32, f16, q8_0, found 'q5'");
  CHECK(error("run -p a -p b") == "-p is given twice: 'a' and 'b'");
  CHECK(error("run --") == "unknown option '--'; see hybrid-run --help");
  CHECK(error("inspect model.gguf") == "unexpected word 'model.gguf'; name the model with -m");
  CHECK(error("run -m=").starts_with("-m: the file name is empty"));
  CHECK(error("run text") == "unexpected word 'text'; options begin with a dash");
  CHECK(error("inspect -t 2").starts_with("-t has no meaning for `inspect`; it belongs to: run"));
  CHECK(error("run --demo=maybe") == "--demo: expected 0, 1, on or off, found 'maybe'");
}

TEST_CASE("what this version lacks is refused, never ignored") {
  CHECK(error("run -mla 4") == "-mla: expected 0, 1, 2, 3, found '4'");
  CHECK(error("run -ot exps").find("-ot: expected a rule RE=DEVICE") == 0);
  CHECK(error("run -ot exps=GPU").find("-ot: unknown device 'GPU' (did you mean CUDA0?)") == 0);
  CHECK(error("run -ot exps=GPU").starts_with("-ot: unknown device 'GPU' (did you mean CUDA0?)"));
  CHECK(error("run -ot ffn_(=CPU").find("not a regular expression") != std::string::npos);
  CHECK_THROWS_AS(parse("run -ot exps"), UsageError);
  CHECK(error("sweep") == "the command `sweep` is not in this version yet");
  CHECK(error("run --mlock").find("--mlock has no meaning here: ") == 0);
}

TEST_CASE("bench takes lists, others do not") {
  const Options o = parse("bench -t 1,2 -t 4 -fa off,0 -b=8,16 -gp 1,2 -gp 3,4 -fmoe -o csv");
  CHECK(o.get_list("threads") == std::vector<std::string>{"1", "2", "4"});
  CHECK(o.get_list("flash-attn") == std::vector<std::string>{"0", "0"});
  CHECK(o.get_list("batch-size") == std::vector<std::string>{"8", "16"});
  CHECK(o.get_list("prompt-gen") == std::vector<std::string>{"1,2", "3,4"});
  CHECK(o.get_list("n-prompt") == std::vector<std::string>{"512"});
  CHECK(o.get_list("isa").empty());
  CHECK(o.with("threads", "2").get_integer("threads") == 2);
  CHECK(parse("bench -fmoe -t 2").get_list("threads") == std::vector<std::string>{"2"});
  CHECK(error("bench -mla 2,4") == "-mla: expected 0, 1, 2, 3, found '4'");
  CHECK(error("bench -fa 0,x") == "-fa: expected 0, 1, on or off, found 'x'");
  CHECK(error("bench -r 1,2").starts_with("-r: expected a whole number"));
  CHECK(error("run -t 1,2") == "-t: expected a whole number from 1 to 4096, found '1,2'");
  CHECK(error("run -t 1 -t 2") == "-t is given twice: '1' and '2'");
  CHECK(error("run -fmoe 1,1").starts_with("-fmoe: expected 0, 1"));
  CHECK(error("run -fa auto").starts_with("-fa: expected 0, 1"));
  CHECK(error("run -fa m.gguf") == "unexpected word 'm.gguf'; name the model with -m");
  CHECK(error("eval -c 100") ==
        "-c has no meaning for `eval`; it belongs to: perplexity, run, chat, plan");
}

TEST_CASE("the table holds together") {
  std::set<std::string> names;
  for (const OptionSpec& o : option_table()) {
    CAPTURE(o.name);
    CHECK(names.insert(std::string(o.name)).second);
    // One command never has two options of one short name.
    for (const CommandSpec& command : command_table()) {
      if (!o.short_name.empty() && applies_to(o, command.name)) {
        CHECK(names.insert(fmt::format("{} {}", command.name, o.short_name)).second);
      }
    }
    CHECK_FALSE(o.help.empty());
    CHECK_FALSE(foreign_flag_advice(display_name(o)).has_value());
    for (const std::string& command : split(o.commands, ' ')) {
      CHECK((command == "*" || find_command(command) != nullptr));
    }
    // A default must be something the option takes.
    if (!o.default_value.empty()) {
      const std::string command = split(o.commands, ' ')[0];
      Options options(command == "*" ? "run" : command);
      CHECK_NOTHROW(options.set(o, std::string(o.default_value), o.name));
    }
    CHECK(help_text().find("--" + std::string(o.name)) != std::string::npos);
  }
}

TEST_CASE("a config fills in what the command line leaves open") {
  const TempDir dir;
  const std::string path = dir.write("c.json", R"({
        // comments are fine
        "model": "from-config.gguf", "temp": 0, "ubatch-size": 32, "fused-moe": true, "mla": 2,
        "ctx": 64
      })")
                               .string();
  const Options o = parse_command_line({"run", "-p", "x", "--config", path, "-ub", "8"});
  CHECK(o.get("model") == "from-config.gguf");
  CHECK(o.get_number("temp") == 0);
  CHECK(o.get_integer("ubatch-size") == 8);
  // A typed option also silences what the config says of its alternative.
  const Options demo = parse_command_line({"run", "-p", "x", "--config", path, "--demo"});
  CHECK_FALSE(demo.is_set("model"));
}

TEST_CASE("a wrong config is an Error with file, place and the nearest name") {
  CHECK(config_error("{\n  \"tmep\": 1}") ==
        R"(line 2, column 3: unknown key "tmep"; did you mean "temp"?)");
  CHECK(config_error(R"({"temp": "hot"})") ==
        R"(line 1, column 10: key "temp": expected a number, found "hot")");
  CHECK(config_error(R"({"ubatch-size": 0})") ==
        "line 1, column 17: key \"ubatch-size\": expected a whole number from 1 to 1073741824, "
        "found '0'");
  CHECK(config_error(R"({"demo": 2})").ends_with(R"(expected true or false, found 2)"));
  CHECK(config_error(R"({"numa": "all"})") ==
        "line 1, column 10: key \"numa\": expected distribute, isolate, numactl, off, found 'all'");
  CHECK(config_error("") == "the config file is empty; the least that it can be is {}");
  CHECK(config_error(R"({"ctx": "none of run's", "kl-base": 7})") == "");
  CHECK(error("run -p x --config /nonexistent/c.json") ==
        "/nonexistent/c.json: cannot read the config file: No such file or directory");
  CHECK(error("run -p x --config /tmp").find("Is a directory") != std::string::npos);
}
