/* The part of TFLM's micro_graph.h that the component uses, over a function that the wheel exports. */
#ifndef TFLNEST_TEST_MICRO_GRAPH_H
#define TFLNEST_TEST_MICRO_GRAPH_H

namespace tflite {
namespace micro {

/* The class that every graph of an interpreter is; it has no virtual functions here, and needs none. */
class MicroInterpreterGraph {
  public:
    int NumSubgraphs();
};

class MicroGraph {
  public:
    int NumSubgraphs()
    {
        return reinterpret_cast<MicroInterpreterGraph *>(this)->NumSubgraphs();
    }
};

}  // namespace micro
}  // namespace tflite

#endif
