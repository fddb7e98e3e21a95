"""Parts of OLTR's and its competitors' networks, and whole models built of them."""
