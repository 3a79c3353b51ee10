"""What is claimed about trained networks, judged with numbers of this one."""

from refspec.claims.bootstrap import bootstrap as bootstrap
from refspec.claims.catalogue import CLAIMS as CLAIMS
from refspec.claims.catalogue import compare as compare
from refspec.claims.catalogue import judge as judge
from refspec.claims.depth import Collapse as Collapse
from refspec.claims.depth import collapse as collapse
from refspec.claims.edges import Edges as Edges
from refspec.claims.edges import edges as edges
from refspec.claims.later import ProductSpan as ProductSpan
from refspec.claims.later import product_span as product_span
from refspec.claims.products import ProductErrors as ProductErrors
from refspec.claims.products import product_errors as product_errors
from refspec.claims.registry import VERDICTS as VERDICTS
from refspec.claims.registry import Claim as Claim
from refspec.claims.registry import Evidence as Evidence
from refspec.claims.registry import Finding as Finding
from refspec.claims.registry import Findings as Findings
from refspec.claims.registry import Member as Member
from refspec.claims.series import Signs as Signs
from refspec.claims.series import member as member
from refspec.claims.series import signs as signs

__all__ = [
    "CLAIMS",
    "VERDICTS",
    "Claim",
    "Collapse",
    "Edges",
    "Evidence",
    "Finding",
    "Findings",
    "Member",
    "ProductErrors",
    "ProductSpan",
    "Signs",
    "bootstrap",
    "collapse",
    "compare",
    "edges",
    "judge",
    "member",
    "product_errors",
    "product_span",
    "signs",
]
