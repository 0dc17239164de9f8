"""`farm bisect`: find the first node of a cell's ONNX file where its engine leaves the reference.

options      the arguments
command      what is compared, and how it is printed
cells        a cell of an earlier sweep: its files, its images, its tolerance
comparisons  the fp32 file with PyTorch, the engine with the fp32 file
releases     the releases of a runtime, up to the first that leaves the fp32 file
agreement    whether two sides give the same boxes
locate       the search, beyond choices between nearly equal rows
search       halving: from a value that differs to the first node that makes it so
differences  how far two arrays are apart
alone        one node by itself, given the engine's own inputs
graphs       which values of a file can be compared, and what each is computed from
marking      files with further outputs, and with given values in place of computed ones
sides        the reference and the engine, each with values of the file read out
engines      an engine built and run once, here or in an environment
pytorch      PyTorch's side: what modules return; calls: as which values of the file
scopes       the module that a node's name tells
report       what was found, as text and as JSON
"""
