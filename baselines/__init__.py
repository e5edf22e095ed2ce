"""The competitors, one file a method, behind the protocol of ``sconv_search.compressor``."""
