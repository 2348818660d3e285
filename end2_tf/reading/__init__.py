"""Everything that is read from outside comes in through here, and is measured before it is believed.

Files come from strangers: a zoo's entries, `.keras` and `.npz` files, images, configs, a workdir that was sent. Readers
elsewhere say what they want and which error to raise; what a file may be is decided in this folder alone:

    texts           JSON and text: size, depth, numbers; names that go to a terminal, a page or a table
    folders         files of a folder, none of them by a link that leads out of it
    archives        ZIP: names, sizes and entries, before anything is unpacked
    npz             NumPy's arrays: headers that agree with their bytes; no objects, so no pickle
    images          pixels by their header, before they are decoded
    keras_files     `.keras`: layers alone, and no more weights than the file holds
    saved_models    SavedModels: operations that touch no file
    protos          tensors in requests
    memory          what is left of it

SECURITY.md says what that promises; `tests/hostile/` has the inputs that it is tried on.
"""
