"""
Pure readers and writers of bank files: bytes in, frozen values out, no Django and no network.

`read_bank_file` is the one way in. MT940 and CSV get modules of their own beside `camt` and join
the dispatch in `reading`.
"""
