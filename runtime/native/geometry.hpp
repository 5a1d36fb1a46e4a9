#pragma once
namespace medtex { int version(); }
