"""`farm bisect`: find the first node of a cell's ONNX file where its engine leaves the reference.

command      which cell, what is compared with what, the answer
cells        a cell of a kept sweep: its files, its images, its tolerance
sides        the reference and the engine, each with values of the file as further outputs
marking      files with further outputs, and with values in place of what nodes decide
graphs       which values of a file can be compared, and what each is computed from
search       halving: from a value that differs to the first node that makes it so
locate       the search, beyond decisions between nearly equal values
alone        one node by itself, given the engine's own inputs
differences  how far two arrays are apart
"""
