#include "runtime/config_schema.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "runtime/option_table.h"
#include "tests/support/golden.h"

using namespace hybrid;
using namespace hybrid::test;

TEST_CASE("the schema in configs/ is that of the option table") {
  // scripts/update_docs.sh writes the file anew.
  CHECK(read_text(HYBRID_TEST_SOURCE_DIR "/configs/schema.json") == config_schema().dump(2) + "\n");
}

TEST_CASE("the schema says type, range and choices of what this version has") {
  const nlohmann::ordered_json schema = config_schema(), properties = schema.at("properties");
  CHECK(properties.at("threads").at("type") == "integer");
  CHECK(properties.at("threads").at("maximum") == 4096);
  CHECK(properties.at("top-p").at("type") == "number");
  CHECK(properties.at("top-p").at("default") == 0.95);
  CHECK(properties.at("output").at("enum").size() == 3);
  CHECK(properties.at("mla").at("anyOf").at(0).at("enum").size() == 8);  // as text and as number
  CHECK(properties.at("special").at("enum").size() == 4);
  CHECK_FALSE(properties.contains("config"));
  CHECK_FALSE(properties.contains("override-tensor"));
  for (const OptionSpec& option : option_table()) {
    const bool is_key = option.name != "config" && option.kind != OptionKind::rules;
    CHECK(properties.contains(std::string(option.name)) == (is_key && is_available(option)));
  }
}
