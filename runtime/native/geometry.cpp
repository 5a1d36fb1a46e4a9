#include "geometry.hpp"
namespace medtex { int version() { return 1; } }
