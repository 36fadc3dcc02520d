"""Measuring Farebox: `farebox bench`, its peers, and what the admin API costs at size. No part of a gateway that
serves."""
