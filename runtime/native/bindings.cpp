#include <nanobind/nanobind.h>
#include "geometry.hpp"
NB_MODULE(_native, m) { m.def("version", &medtex::version); }
