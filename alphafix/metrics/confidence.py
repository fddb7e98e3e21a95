"""How sure limits are, unless somebody says otherwise; options read it before NumPy is loaded."""

DEFAULT_CONFIDENCE = 0.95
