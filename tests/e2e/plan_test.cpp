// `plan` as a user meets it: it needs headers alone, always prints, and says what `run` will do.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/cuda_devices.h"
#include "tests/support/real_headers.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;
using Json = nlohmann::json;

namespace {

struct Files {
  TempDir dir;
  std::string bytes = tiny_model({.quantised = true}).bytes();
  std::string model = dir.write("tiny.gguf", bytes).string();
};

Json plan_of(std::vector<std::string> words) {
  words.insert(words.begin(), {"plan", "--json"});
  const ProgramResult result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(result.err.empty());
  return Json::parse(result.out);
}

}  // namespace

TEST_CASE("plan prints for people and for programs") {
  const Files f;
  const ProgramResult text = run_program({"plan", "-m", f.model});
  CHECK(text.exit_code == 0);
  CHECK(text.err.empty());
  for (const char* part : {"memory (CPU)", "KV cache", "blk.*.attn_output.weight", "fits: true",
                           "no rates are stored"}) {
    CAPTURE(part);
    CHECK(text.out.find(part) != std::string::npos);
  }
  const Json json =
      plan_of({"-m",  f.model, "-c",   "50",  "-b", "40", "-ub", "30", "-mla", "1",
               "-fa", "0",     "-ctk", "f32", "-t", "1",  "-tb", "2",  "-amb", "0.5"});
  CHECK(json["context"] == 50);
  CHECK(json["n_ubatch"] == 30);
  CHECK(json["n_threads"] == 1);
  CHECK(json["n_threads_batch"] == 2);
  CHECK(json["attention"]["amb_bytes"] == 1 << 19);
  CHECK(json["attention"]["ctk"] == "f32");
  CHECK(json["attention"]["transposed_bytes"] == 3 * 16 * 64 * 4);
  CHECK(json["attention"]["scores_steps"] == 1);
}

TEST_CASE("plan reads headers alone, and says what is missing of the rest") {
  const Files f;
  const std::string sparse = f.dir.write("sparse.gguf", f.bytes).string();
  // What lies behind the headers becomes a hole, or is not there at all.
  const Json whole = plan_of({"-m", f.model});
  const size_t headers = f.bytes.size() - 20000;
  std::filesystem::resize_file(sparse, headers);
  const Json cut = plan_of({"-m", sparse});
  CHECK(cut["devices"][0]["weights_bytes"] == whole["devices"][0]["weights_bytes"]);
  CHECK(cut["warnings"].size() == 1);
  std::filesystem::resize_file(sparse, f.bytes.size());
  const Json hole = plan_of({"-m", sparse});
  CHECK(hole["warnings"].empty());
  CHECK(hole["tensors"] == whole["tensors"]);
}

TEST_CASE("plan of what does not fit exits 0 and says why; run exits 1 with the same words") {
  const Files f;
  const std::vector<std::string> huge{"-m", f.model,      "-c",  "1073741824",
                                      "-b", "1073741824", "-ub", "1073741824"};
  const Json json = plan_of(huge);
  CHECK(json["fits"] == false);
  CHECK(json["devices"][0]["free_bytes"] == 0);
  const std::string why_not = json["why_not"];
  CHECK(why_not.find("the cache of 1073741824 tokens needs") != std::string::npos);
  const Json narrow = plan_of({"-m", f.model, "-fa", "0", "-amb", "0.00001"});
  CHECK(narrow["fits"] == false);
  const ProgramResult refused =
      run_program({"run", "-m", f.model, "-p", "x", "-fa", "0", "-amb", "0.00001"});
  CHECK(refused.exit_code == 1);
  CHECK(refused.err == "hybrid-run: " + narrow["why_not"].get<std::string>() + "\n");
}

TEST_CASE("plan: what is wrong is one line") {
  const Files f;
  const auto check = [](const std::vector<std::string>& words, int code, const char* message) {
    const ProgramResult result = run_program(words);
    CAPTURE(result.err);
    CHECK(result.exit_code == code);
    CHECK(is_one_error_line(result.err));
    CHECK(result.err.find(message) != std::string::npos);
    CHECK(result.out.empty());
  };
  check({"plan"}, 2, "`plan` needs -m");
  check({"plan", "-m", "/none.gguf"}, 1, "/none.gguf");
  check({"plan", "-m", f.dir.write("x.gguf", "no model").string()}, 1, "expected a GGUF file");
  check({"plan", "-m", f.model, "-ub", "4096"}, 2, "-ub 4096 is more than -b 2048");
  check({"plan", "-m", f.model, "-ctv", "q8_0"}, 2, "-ctv q8_0");
  check({"plan", "-m", f.model, "--save", f.model}, 1, "already uses that file");
  check({"plan", "-m", f.model, "--machine", "/none.json"}, 1, "/none.json");
  check({"plan", "-m", f.model, "-ot", "exps=GPU"}, 2, "did you mean CUDA0?");
  check({"plan", "-m", f.model, "-ts", "1,x"}, 2, "-ts: expected shares");
  check({"plan", "-m", f.model, "-ts", "1,1"}, 2, "give -ngl, too");
  check({"plan", "-m", f.model, "-n", "5"}, 2, "-n");
}

TEST_CASE("what the machine has no device for is a plan that does not fit") {
  const Files f;
  const std::string machine =
      f.dir
          .write("machine.json", R"({"name": "one GPU", "gpus": [{"name": "tiny", "memory_gib": 8}],
        "cpu": {"sockets": 1, "cores": 4, "isa": "avx2", "memory_gib": 8}})")
          .string();
  const auto reason = [&](std::vector<std::string> words) -> std::string {
    words.insert(words.begin(), {"-m", f.model});
    const Json json = plan_of(words);
    CHECK(json["fits"] == false);
    return json["why_not"];
  };
  CHECK(reason({"-ot", "exps=CUDA77"}).find("this machine has no CUDA77") != std::string::npos);
  CHECK(reason({"--device", "cuda:77"}).find("CUDA77") != std::string::npos);
  CHECK(reason({"--machine", machine, "--device", "cuda:1"}).find("has no CUDA1") !=
        std::string::npos);
  CHECK(reason({"--machine", machine, "--device", "sim"}).find("SIM0 cannot") != std::string::npos);
  CHECK(reason({"--machine", machine, "--numa", "isolate"}).find("node_bandwidth_gbs") !=
        std::string::npos);
  CHECK(reason({"--machine", machine, "-ngl", "99", "-mla", "0"}).find("-mla 0") !=
        std::string::npos);
  // And not all of a described machine need be used.
  const std::vector<std::string> words{"-m", f.model, "--machine", machine};
  CHECK(plan_of(words)["devices"].size() == 2);
  std::vector<std::string> cpu = words;
  cpu.insert(cpu.end(), {"--device", "none"});
  CHECK(plan_of(cpu)["devices"].size() == 1);
  CHECK(plan_of(cpu)["fits"] == true);
}

TEST_CASE("a described machine's level is planned, whatever this processor has") {
  const Files f;
  const auto level = [&](const char* isa, std::vector<std::string> words) -> std::string {
    const std::string machine =
        f.dir
            .write("machine.json", std::string(R"({"name": "other", "cpu": {"sockets": 1,
          "cores": 4, "memory_gib": 8, "isa": ")") +
                                       isa + "\"}}")
            .string();
    words.insert(words.begin(), {"-m", f.model, "--machine", machine});
    return plan_of(words)["isa"];
  };
  CHECK(level("avx2", {}) == "avx2");
  CHECK(level("amx", {}) == "amx");
  CHECK(level("avx2", {"--isa", "amx"}) == "amx");
}

TEST_CASE("plan for a described machine, saved and planned again, is the same plan") {
  const Files f;
  const std::string machine = f.dir
                                  .write("machine.json", R"({
    "name": "one small GPU", "gpus": [{"name": "tiny", "memory_gib": 0.84, "pcie_gbs": 10}],
    "cpu": {"sockets": 1, "cores": 4, "isa": "avx2", "memory_gib": 8, "bandwidth_gbs": 40}
  })")
                                  .string();
  const std::string saved = f.dir.path() / "saved.json";
  const Json first = plan_of({"-m", f.model, "--machine", machine, "-c", "64", "-ctk", "q8_0",
                              "-ot", R"(blk\.1\.ffn_.*_exps=CPU)", "--save", saved});
  CHECK(first["machine"] == "one small GPU");
  CHECK(first["devices"].size() == 2);
  CHECK(first["devices"][1]["label"] == "tiny");
  CHECK(first["settings"][0]["source"] == "command line");
  const Json again = plan_of({"--config", saved});
  CHECK(again["devices"] == first["devices"]);
  CHECK(again["predicted"] == first["predicted"]);
  CHECK(again["context"] == 64);
  CHECK(again["attention"] == first["attention"]);
  REQUIRE(again["tensors"].size() == first["tensors"].size());
  for (size_t i = 0; i < again["tensors"].size(); ++i) {
    CHECK(again["tensors"][i]["device"] == first["tensors"][i]["device"]);
  }
  CHECK(again["settings"][0]["source"].get<std::string>().find("config ") == 0);
}

TEST_CASE("a GPU is refused where there is none, and not missed where nobody asks for it") {
  const Files f;
  std::string reason;
  if (!hybrid::find_cuda_devices(reason).empty()) {
    MESSAGE("not tested: there is a GPU here");
    return;
  }
  const Json plan = plan_of({"-m", f.model, "--device", "cuda:0"});
  CHECK(plan["fits"] == false);
  CHECK(plan["why_not"] == "there is no CUDA0: " + reason);
  for (const char* command : {"run", "bench"}) {
    std::vector<std::string> words{command, "-m", f.model, "--device", "cuda:0"};
    if (command == std::string("run")) words.insert(words.end(), {"-p", "x"});
    const ProgramResult named = run_program(words);
    CHECK(named.exit_code == 1);
    CHECK(named.err == "hybrid-run: there is no CUDA0: " + reason + "\n");
  }
  const std::vector<std::string> words{"run", "-m", f.model, "-p", "x", "-n", "1"};
  const ProgramResult unasked = run_program(words);
  CHECK(unasked.exit_code == 0);
  CHECK(unasked.err.find("GPU") == std::string::npos);
  std::vector<std::string> verbose = words;
  verbose.emplace_back("-v");
  CHECK(run_program(verbose).err.find("GPUs: " + reason) != std::string::npos);
}

TEST_CASE("run takes rules for this machine's devices and refuses those for others") {
  const Files f;
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"run", "-m", f.model, "-p", "x", "-n", "2"});
    return run_program(words);
  };
  CHECK(run({"-ot", "exps=CPU", "--cpu-moe", "--n-cpu-moe", "2", "-ngl", "0"}).exit_code == 0);
  const ProgramResult refused = run({"-ot", "exps=CUDA0"});
  CHECK(refused.exit_code == 1);
  CHECK(refused.err.find("-ot: exps=CUDA0: this machine has no CUDA0") != std::string::npos);
  const std::string config =
      f.dir.write("c.json", R"({"devices": [{"name": "CPU", "budget_bytes": 1000}]})").string();
  const ProgramResult narrow = run({"--config", config});
  CHECK(narrow.exit_code == 1);
  CHECK(narrow.err.find("available are 1000 B") != std::string::npos);
}

TEST_CASE("each sample config fits the machine it is for") {
  const Files f;
  const std::string r1 = f.dir.write("r1.gguf", r1_headers()).string();
  const std::string small_r1 =
      f.dir
          .write("r1-q2.gguf",
                 r1_headers({.type = hybrid::DType::q2_k, .down_type = hybrid::DType::q3_k}))
          .string();
  const std::string lite = f.dir.write("lite.gguf", lite_headers()).string();
  const std::string configs = HYBRID_TEST_SOURCE_DIR "/configs/";
  struct Sample {
    const char *config, *machine;
    const std::string& model;
    const char *attention, *experts;  // devices of layer 30 (Lite: 20)
  };
  const Sample samples[] = {
      {"deepseek-r1-1x24gb", "1x24gb-512gib", r1, "CUDA0", "CPU"},
      {"deepseek-r1-2x24gb", "2x24gb-512gib", r1, "CUDA1", "CPU"},
      {"deepseek-r1-1x48gb", "1x48gb-512gib", r1, "CUDA0", "CPU"},
      {"deepseek-r1-15x24gb", "15x24gb-64gib", small_r1, "CUDA", "CUDA"},
      {"deepseek-r1-dual-socket", "dual-socket-768gib", r1, "CPU", "CPU"},
      {"deepseek-v2-lite-1x8gb", "1x8gb-16gib", lite, "CUDA0", "CPU"},
      {"cpu-only", "dual-socket-768gib", lite, "CPU", "CPU"},
  };
  size_t n_configs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(configs)) {
    n_configs += entry.path().string().find("schema") == std::string::npos && !entry.is_directory();
  }
  CHECK(n_configs == std::size(samples));
  for (const Sample& sample : samples) {
    CAPTURE(std::string(sample.config));
    const Json plan = plan_of({"-m", sample.model, "--config", configs + sample.config + ".json",
                               "--machine", configs + "machines/" + sample.machine + ".json"});
    CHECK(plan["fits"] == true);
    CHECK(plan["warnings"].size() == 1);  // the data is not there
    CHECK(plan["predicted"]["tg_tps"].get<double>() > 1);
    const std::string layer = &sample.model == &lite ? "blk.20." : "blk.30.";
    for (const auto& tensor : plan["tensors"]) {
      const std::string name = tensor["name"];
      if (name.find(layer) != 0) continue;
      const bool is_routed = name.find("_exps") != std::string::npos;
      CAPTURE(name);
      CHECK(tensor["device"].get<std::string>().find(is_routed ? sample.experts
                                                               : sample.attention) == 0);
    }
  }
}

TEST_CASE("--numa of a described machine: two sockets, one, and pages anywhere") {
  const Files f;
  const std::string r1 = f.dir.write("r1.gguf", r1_headers()).string();
  const std::string lite = f.dir.write("lite.gguf", lite_headers()).string();
  const std::string machines = HYBRID_TEST_SOURCE_DIR "/configs/machines/";
  const auto tokens_per_second = [&](const std::string& model, const char* mode) {
    const Json plan = plan_of({"-m", model, "--device", "none", "--numa", mode, "--machine",
                               machines + "2x-xeon-6980p-1536gib.json"});
    CHECK(plan["fits"] == true);
    CHECK(plan["predicted"]["basis"].get<std::string>().find(std::string("--numa ") + mode) !=
          std::string::npos);
    return plan["predicted"]["tg_tps"].get<double>();
  };
  for (const std::string* of : {&r1, &lite}) {
    const std::string& model = *of;
    const double both = tokens_per_second(model, "distribute");
    const double one = tokens_per_second(model, "isolate");
    const double anywhere = tokens_per_second(model, "off");
    CAPTURE(one);
    CAPTURE(both);
    CHECK(both > 1.1 * anywhere);
    CHECK(both < 2 * one);  // they have to meet
    if (of == &r1) CHECK(both >= 1.7 * one);
  }
  const Json unknown =
      plan_of({"-m", r1, "--numa", "isolate", "--machine", machines + "1x24gb-512gib.json"});
  CHECK(unknown["why_not"].get<std::string>().find("does not say how fast its nodes read") !=
        std::string::npos);
  CHECK(run_program({"plan", "-m", r1, "--numa", "numactl", "--machine",
                     machines + "2x-xeon-6980p-1536gib.json"})
            .exit_code == 2);
}
