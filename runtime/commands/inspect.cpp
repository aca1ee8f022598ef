#include "runtime/inspect_report.h"

#include <nlohmann/json.hpp>

#include "runtime/commands/command.h"

namespace hybrid::commands {

void inspect(const Options& options) {
  const GgufFile file = GgufFile::open(options.get("model"), {.data_required = false});
  if (options.get_toggle("json")) {
    print(inspect_json(file).dump(2) + "\n");
  } else {
    print(inspect_text(file));
  }
}

}  // namespace hybrid::commands
