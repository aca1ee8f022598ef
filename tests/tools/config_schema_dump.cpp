// Prints the JSON Schema of config files, for scripts/update_docs.sh.

#include <iostream>
#include <nlohmann/json.hpp>

#include "runtime/config_schema.h"

int main() { std::cout << hybrid::config_schema().dump(2) << '\n'; }
